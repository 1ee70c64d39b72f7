-- Users, clients, sessions, signing keys, the revocation list, events and the audit log.
-- Times are microseconds since the Unix epoch unless a comment says seconds; ids are UUIDv7 as text.
-- Both backends have the same tables and columns.

CREATE TABLE users (
    id                 TEXT    NOT NULL PRIMARY KEY,
    email              TEXT    NOT NULL,
    email_canonical    TEXT    NOT NULL UNIQUE, -- the form compared for uniqueness: model::user::canonical
    username           TEXT,
    username_canonical TEXT    UNIQUE,
    password_hash      TEXT    NOT NULL,        -- PHC string (argon2id), or an imported hash
    role               TEXT    NOT NULL,        -- a name in `roles`
    is_verified        BOOLEAN NOT NULL,        -- the email address was verified
    created_at         BIGINT  NOT NULL,
    updated_at         BIGINT  NOT NULL,        -- strictly increasing: the entity tag of the row
    last_login_at      BIGINT,
    disabled_at        BIGINT,
    provisioning       TEXT,                    -- 'pending': the user service has not created the profile
    external_id        TEXT    UNIQUE,          -- the id in the system that the user was imported from
    language           TEXT,                    -- of mails: that of the pages the user has used
    second_factor_at   BIGINT                   -- when the first second factor was added; NULL: none
);

CREATE TABLE roles (
    name                  TEXT    NOT NULL PRIMARY KEY,
    description           TEXT    NOT NULL,
    require_second_factor BOOLEAN NOT NULL,    -- its users log in with a second factor only
    created_at            BIGINT  NOT NULL,
    updated_at            BIGINT  NOT NULL
);
INSERT INTO roles (name, description, require_second_factor, created_at, updated_at)
VALUES ('user', 'The default role of a new user.', FALSE, 0, 0),
       ('admin', 'May use the admin API.', FALSE, 0, 0);

CREATE TABLE clients (
    id                      TEXT   NOT NULL PRIMARY KEY,
    metadata                TEXT   NOT NULL,    -- JSON: model::client::Metadata (RFC 7591 section 2)
    source                  TEXT   NOT NULL,    -- 'built_in', 'operator', 'file' (clients.toml),
                                                -- 'registration' (RFC 7591), 'document' (URL client_id)
    secret_hash             BYTEA,              -- SHA-256; NULL: no secret
    old_secret_hash         BYTEA,              -- the previous secret, while it is being rotated
    old_secret_expires_at   BIGINT,
    registration_token_hash BYTEA,              -- SHA-256 of the registration access token (RFC 7592)
    created_at              BIGINT NOT NULL,
    updated_at              BIGINT NOT NULL,
    expires_at              BIGINT,             -- when an unused dynamic registration is removed
    disabled_at             BIGINT,
    registered_from         TEXT                -- the network that a self-registered client came from
);
CREATE INDEX clients_registered_from ON clients (registered_from) WHERE registered_from IS NOT NULL;
-- `propusk`: the first-party client of the JSON API. `propusk-docs`: Swagger UI at /docs; its redirect
-- URI follows from the issuer.
INSERT INTO clients (id, metadata, source, created_at, updated_at)
VALUES ('propusk', '{"client_name":"Propusk","scope":"openid profile email"}', 'built_in', 0, 0),
       ('propusk-docs', '{"client_name":"Swagger UI","scope":"openid profile email",'
            || '"consent":"implicit","token_endpoint_auth_method":"none",'
            || '"grant_types":["authorization_code"]}', 'built_in', 0, 0);

-- The origins of clients' redirect URIs and their `allowed_origins`, for CORS.
CREATE TABLE client_origins (
    origin    TEXT NOT NULL,                    -- scheme, host, and the port unless it is the default
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    PRIMARY KEY (origin, client_id)
);
CREATE INDEX client_origins_client_id ON client_origins (client_id);

-- A logged-in browser, identified by an opaque cookie.
CREATE TABLE browser_sessions (
    id               TEXT   NOT NULL PRIMARY KEY,
    token_hash       BYTEA  NOT NULL UNIQUE,    -- SHA-256 of the cookie
    user_id          TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    authenticated_at BIGINT NOT NULL,           -- `auth_time` (OpenID Connect Core section 2)
    amr              TEXT   NOT NULL,           -- RFC 8176, space-separated
    expires_at       BIGINT NOT NULL,           -- unless it is used before
    max_expires_at   BIGINT NOT NULL,           -- however it is used
    revoked_at       BIGINT,
    address          TEXT,                      -- IP address
    user_agent       TEXT
);
CREATE INDEX browser_sessions_user_id ON browser_sessions (user_id);
CREATE INDEX browser_sessions_expires_at ON browser_sessions (expires_at);

-- A session is a refresh token family: one row, whatever the number of rotations. It starts as an
-- authorization code, which is exchanged by one UPDATE, or with a refresh token. Columns that a
-- rotation changes must not be indexed; fillfactor leaves
-- room on the page, so that a rotation is a heap-only (HOT) update.
CREATE TABLE sessions (
    id                 TEXT    NOT NULL PRIMARY KEY, -- `sid` of its tokens
    subject            TEXT    NOT NULL,             -- `sub` of its tokens
    user_id            TEXT    REFERENCES users (id) ON DELETE CASCADE, -- NULL: a user whom a back end keeps
    client_id          TEXT    NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    browser_session_id TEXT    REFERENCES browser_sessions (id) ON DELETE SET NULL,
    scope              TEXT    NOT NULL,             -- space-separated (RFC 6749 section 3.3)
    details            TEXT,                         -- JSON: model::session::SessionDetails
    offline            BOOLEAN NOT NULL,             -- survives the logout of its browser session
    code_hash          BYTEA,                        -- SHA-256 of the authorization code
    redirect_uri       TEXT,
    code_challenge     TEXT,                         -- S256 (RFC 7636); '' where no PKCE was used
    exchanged_at       BIGINT,                       -- NULL: an authorization code not exchanged yet
    chain_key          BIGINT  NOT NULL,             -- `keys.number` of the key that derives successors
    generation         BIGINT  NOT NULL,             -- number of rotations so far
    current_hash       BYTEA   NOT NULL,             -- SHA-256 of the current refresh token
    authenticated_at   BIGINT,                       -- `auth_time` of its tokens; NULL: nobody logged in
    created_at         BIGINT  NOT NULL,
    rotated_at         BIGINT  NOT NULL,
    idle_expires_at    BIGINT  NOT NULL,             -- extended by each rotation
    expires_at         BIGINT  NOT NULL,             -- absolute, never extended
    revoked_at         BIGINT,
    revocation_reason  TEXT,                         -- model::session::RevocationReason
    address            TEXT,                         -- IP address
    user_agent         TEXT
) WITH (fillfactor = 85);
CREATE INDEX sessions_user_id ON sessions (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_subject ON sessions (subject) WHERE user_id IS NULL;
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE INDEX sessions_browser_session_id ON sessions (browser_session_id) WHERE browser_session_id IS NOT NULL;

CREATE TABLE keys (
    id           TEXT   NOT NULL PRIMARY KEY,   -- `kid`: RFC 7638 thumbprint of a signing key
    number       BIGINT NOT NULL UNIQUE,        -- order of creation; refresh tokens name their key by it
    algorithm    TEXT   NOT NULL,               -- a JWS algorithm, 'refresh-chain' or 'derivation'
    public_jwk   TEXT,                          -- signing keys only
    private_jwe  TEXT   NOT NULL,               -- encrypted under the master key (JWE: dir, A256GCM)
    created_at   BIGINT NOT NULL,
    activates_at BIGINT NOT NULL,
    retires_at   BIGINT,                        -- does not sign from this time on
    banned_at    BIGINT
);

-- The revocation list. Numbers are gapless and in commit order: they are taken from `change_counters`
-- in the same transaction.
CREATE TABLE revocations (
    number       BIGINT NOT NULL PRIMARY KEY,
    kind         TEXT   NOT NULL,               -- 'token', 'session', 'subject', 'scope', 'client', 'key'
    target       TEXT   NOT NULL,               -- `jti`, `sid`, `sub`, `client_id` or `kid`
    scope        TEXT,                          -- kind 'scope' only
    issued_until BIGINT,                        -- seconds; kinds 'subject', 'scope' and 'client': revokes
                                                -- tokens with iat <= issued_until
    reason       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL                -- when every token it applies to has expired
);
CREATE INDEX revocations_expires_at ON revocations (expires_at);

-- One row per kind of data that processes cache. The UPDATE that takes the next version serialises the
-- writers of that kind until they commit. 'clients' also covers resources, scopes and modules;
-- 'replica_epoch' is not a counter: it names the Redis replica that is trusted, 0 for none.
CREATE TABLE change_counters (
    name    TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO change_counters (name, version)
VALUES ('revocations', 0), ('keys', 0), ('clients', 0), ('replica_epoch', 0);

-- Steps that run once per deployment, such as creating the first administrator.
CREATE TABLE bootstrap_markers (
    name TEXT   NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);

CREATE TABLE outbox (
    number         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT   NOT NULL UNIQUE,
    type           TEXT   NOT NULL,             -- CloudEvents `type`
    subject        TEXT   NOT NULL,             -- user id: the ordering key
    data           TEXT   NOT NULL,             -- JSON
    correlation_id TEXT,
    created_at     BIGINT NOT NULL,
    published_at   BIGINT,                      -- acknowledged by Kafka; NULL: not yet
    refused        TEXT,                        -- why Kafka refused it for good (dead-letter topic)
    webhooks_at    BIGINT                       -- deliveries to webhooks were queued; NULL: not yet
);
-- Rows are added in the order of their times: a block range index costs an insert nothing.
CREATE INDEX outbox_created_at ON outbox USING brin (created_at) WITH (autosummarize = on);
-- The events with names of users, which the deletion of a user blanks.
CREATE INDEX outbox_user_created ON outbox (subject) WHERE type = 'user.created';

CREATE TABLE audit_log (
    number         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             BIGINT NOT NULL,
    action         TEXT   NOT NULL,
    actor          TEXT   NOT NULL,             -- user id, client id, 'cli' or 'anonymous'
    subject        TEXT,
    address        TEXT,                        -- IP address
    request_id     TEXT,
    correlation_id TEXT,                        -- NULL: the request id
    detail         TEXT   NOT NULL              -- JSON, without secrets
);
CREATE INDEX audit_log_at ON audit_log USING brin (at) WITH (autosummarize = on); -- as of the outbox
