-- Times are microseconds since the epoch; ids are UUIDs as text. Both backends have the same columns.

CREATE TABLE users (
    id                  TEXT    NOT NULL PRIMARY KEY,
    email               TEXT    NOT NULL,
    email_canonical     TEXT    NOT NULL UNIQUE, -- NFKC and lower case: what may exist once
    username            TEXT,
    username_canonical  TEXT    UNIQUE,
    password_hash       TEXT    NOT NULL,        -- PHC string (argon2id)
    role                TEXT    NOT NULL,
    is_verified         BOOLEAN NOT NULL,
    created_at          BIGINT  NOT NULL,
    updated_at          BIGINT  NOT NULL,
    last_login_at       BIGINT,
    disabled_at         BIGINT
);

CREATE TABLE clients (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    secret_hash BYTEA,                         -- SHA-256 of a random secret; NULL: a public client
    scope       TEXT   NOT NULL,                 -- what it may ask for, space-separated (RFC 6749 §3.3)
    created_at  BIGINT NOT NULL,
    disabled_at BIGINT
);

-- The JSON API's own client: a login there is a session of this one.
INSERT INTO clients (id, name, secret_hash, scope, created_at, disabled_at)
VALUES ('propusk', 'Propusk', NULL, 'openid profile email', 0, NULL);

-- A session is a refresh-token family: one row, whatever the number of rotations. No column that a
-- rotation changes may be indexed.
-- fillfactor leaves room on the page, so that a rotation is a heap-only (HOT) update.
CREATE TABLE sessions (
    id              TEXT   NOT NULL PRIMARY KEY, -- the `sid` of its tokens
    subject         TEXT   NOT NULL,             -- the `sub` of its tokens
    user_id         TEXT   REFERENCES users (id) ON DELETE CASCADE,
    client_id       TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    scope           TEXT   NOT NULL,
    chain_key       BIGINT NOT NULL,             -- number of the key that derives each next secret
    generation      BIGINT NOT NULL,
    current_hash    BYTEA NOT NULL,            -- SHA-256 of the current refresh token
    rotated_at      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,             -- also the `auth_time`
    idle_expires_at BIGINT NOT NULL,             -- slides with each rotation
    expires_at      BIGINT NOT NULL,             -- never moves
    revoked_at      BIGINT,
    revoked_for     TEXT,
    address         TEXT,
    user_agent      TEXT
) WITH (fillfactor = 85);
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE keys (
    id           TEXT   NOT NULL PRIMARY KEY,    -- the `kid`: RFC 7638 thumbprint of a signing key
    number       BIGINT NOT NULL UNIQUE,         -- order of creation; a refresh token names its chain key by it
    algorithm    TEXT   NOT NULL,                -- a JWS algorithm, or 'refresh-chain'
    public_jwk   TEXT,                           -- signing keys only
    private_jwe  TEXT   NOT NULL,                -- encrypted under the master key (JWE, dir, A256GCM)
    created_at   BIGINT NOT NULL,
    activates_at BIGINT NOT NULL,
    retires_at   BIGINT,                         -- signs no more from here on
    banned_at    BIGINT
);

-- The revocation list. `number` is gapless and in commit order: it is taken from `heads` in the same transaction.
CREATE TABLE revocations (
    number        BIGINT NOT NULL PRIMARY KEY,
    kind          TEXT   NOT NULL,               -- 'token', 'session', 'subject', 'scope', 'client', 'key'
    target        TEXT   NOT NULL,               -- jti, sid, sub, client_id or kid
    scope         TEXT,                          -- kind 'scope' only
    issued_before BIGINT,                        -- seconds; kinds 'subject', 'scope', 'client'
    reason        TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL                -- when the last token it could hit has expired
);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

-- One row a name; updating it serialises the writers of that list until they commit.
CREATE TABLE heads (
    name   TEXT   NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
);
INSERT INTO heads (name, number) VALUES ('revocations', 0), ('keys', 0);

-- What happened once and never again, such as the making of the first administrator.
CREATE TABLE milestones (
    name TEXT   NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);

CREATE TABLE outbox (
    number         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT   NOT NULL UNIQUE,
    type           TEXT   NOT NULL,
    subject        TEXT   NOT NULL,              -- user id: the ordering key
    data           TEXT   NOT NULL,              -- JSON
    correlation_id TEXT,
    created_at     BIGINT NOT NULL,
    published_at   BIGINT
);
CREATE INDEX outbox_created_at ON outbox (created_at);

CREATE TABLE audit (
    number         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             BIGINT NOT NULL,
    action         TEXT   NOT NULL,
    actor          TEXT   NOT NULL,              -- user id, client id, 'cli' or 'anonymous'
    subject        TEXT,
    address        TEXT,
    request_id     TEXT,
    correlation_id TEXT,
    detail         TEXT   NOT NULL               -- JSON, without secrets
);
CREATE INDEX audit_at ON audit (at);
