-- Modules, the parts of the platform that are switched on per user; roles; and what the admin API keeps.

CREATE TABLE modules (
    id              TEXT    NOT NULL PRIMARY KEY,
    names           TEXT    NOT NULL,             -- {"en": "…", "ru": "…"}
    descriptions    TEXT    NOT NULL,
    scope           TEXT    NOT NULL,             -- what a token may carry while its user has the module
    resource        TEXT,                         -- the `aud` of such tokens; NULL: this server's own API
    is_self_service BOOLEAN NOT NULL,             -- whether users may switch it themselves
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL
);

-- A user's modules and their history: one row for each stretch of time. At most one row a user and module is open; it
-- holds until it is closed or, where it has a planned end, until then. A module's rows outlive it.
CREATE TABLE module_grants (
    id          TEXT   NOT NULL PRIMARY KEY,
    user_id     TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    module_id   TEXT   NOT NULL,
    valid_from  BIGINT NOT NULL,
    valid_until BIGINT,                           -- planned while the row is open, the real end when it is closed
    granted_by  TEXT   NOT NULL,                  -- user id, client id or 'cli'
    ended_by    TEXT,                             -- the same; NULL where the time ran out
    closed_at   BIGINT
);
CREATE UNIQUE INDEX module_grants_open ON module_grants (user_id, module_id) WHERE closed_at IS NULL;
CREATE INDEX module_grants_user_id ON module_grants (user_id, valid_from);
CREATE INDEX module_grants_module_id ON module_grants (module_id) WHERE closed_at IS NULL;
CREATE INDEX module_grants_valid_until ON module_grants (valid_until) WHERE closed_at IS NULL;

CREATE TABLE roles (
    name        TEXT   NOT NULL PRIMARY KEY,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
INSERT INTO roles (name, description, created_at, updated_at)
VALUES ('user', 'Everybody who registers.', 0, 0), ('admin', 'May use the admin API.', 0, 0);
INSERT INTO roles (name, description, created_at, updated_at)
SELECT DISTINCT role, '', 0, 0 FROM users WHERE role NOT IN ('user', 'admin');

-- Requests that were refused, and why: what `propusk explain` shows. No secrets.
CREATE TABLE refusals (
    request_id     TEXT   NOT NULL PRIMARY KEY,
    at             BIGINT NOT NULL,
    call           TEXT   NOT NULL,               -- method and route, or the gRPC method
    status         TEXT   NOT NULL,
    code           TEXT   NOT NULL,
    reason         TEXT   NOT NULL,
    facts          TEXT   NOT NULL,               -- JSON: name -> value
    address        TEXT,
    correlation_id TEXT
);
CREATE INDEX refusals_at ON refusals (at);

-- What was made under an `Idempotency-Key`, so that a retry finds it instead of making it twice.
CREATE TABLE idempotency_keys (
    actor        TEXT   NOT NULL,
    key_hash     BYTEA  NOT NULL,               -- SHA-256
    request_hash BYTEA  NOT NULL,               -- SHA-256 of the call and its body
    resource     TEXT   NOT NULL,                 -- the id of what was made
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (actor, key_hash)
);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);

-- The copy of the revocation list in Redis that may be believed; 0: none yet.
INSERT INTO heads (name, number) VALUES ('projection', 0);

-- What the admin API's lists are filtered by. LIKE 'begins%' finds by an index of its own kind.
CREATE INDEX users_email_begins ON users (email_canonical text_pattern_ops);
CREATE INDEX users_username_begins ON users (username_canonical text_pattern_ops);
CREATE INDEX users_role ON users (role, id);
CREATE INDEX clients_source ON clients (source, id);
CREATE INDEX sessions_client_id ON sessions (client_id, id);
CREATE INDEX revocations_target ON revocations (target, number);
CREATE INDEX audit_actor ON audit (actor, number);
CREATE INDEX audit_subject ON audit (subject, number);
CREATE INDEX audit_action ON audit (action, number);
