-- Product modules that are enabled per user, and what the admin API stores.

CREATE TABLE modules (
    id              TEXT    NOT NULL PRIMARY KEY,
    names           TEXT    NOT NULL,           -- JSON: {"en": "...", "ru": "..."}
    descriptions    TEXT    NOT NULL,           -- JSON, likewise
    scope           TEXT    NOT NULL,           -- granted only to users who have the module
    resource        TEXT,                       -- `aud` of such tokens; NULL: this server's own API
    is_self_service BOOLEAN NOT NULL,           -- users may enable and disable it themselves
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL
);

-- Every scope that belongs, or once belonged, to a module: users get it through a module only. Rows
-- outlive their module, so that removing one closes its scopes instead of opening them to everybody.
CREATE TABLE module_scopes (
    name TEXT NOT NULL PRIMARY KEY
);

-- The modules of a user and their history: one row per validity period, at most one open row per user
-- and module. Rows outlive their module.
CREATE TABLE module_grants (
    id          TEXT   NOT NULL PRIMARY KEY,
    subject     TEXT   NOT NULL,                -- user id, or the `sub` of a user whom a back end keeps
    user_id     TEXT   REFERENCES users (id) ON DELETE CASCADE, -- NULL for the latter
    module_id   TEXT   NOT NULL,
    valid_from  BIGINT NOT NULL,
    valid_until BIGINT,                         -- planned end of an open row, actual end of a closed one
    granted_by  TEXT   NOT NULL,                -- user id, client id or 'cli'
    ended_by    TEXT,                           -- likewise; NULL: open, or the planned end was reached
    closed_at   BIGINT                          -- NULL: open
);
CREATE UNIQUE INDEX module_grants_open ON module_grants (subject, module_id) WHERE closed_at IS NULL;
CREATE INDEX module_grants_subject ON module_grants (subject, valid_from);
CREATE INDEX module_grants_user_id ON module_grants (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX module_grants_module_id ON module_grants (module_id) WHERE closed_at IS NULL;
CREATE INDEX module_grants_valid_until ON module_grants (valid_until) WHERE closed_at IS NULL;

-- Denied requests and the reason, for `propusk explain`. No secrets.
CREATE TABLE denied_requests (
    request_id     TEXT   NOT NULL PRIMARY KEY,
    at             BIGINT NOT NULL,
    call           TEXT   NOT NULL,             -- method and route, or the gRPC method
    status         TEXT   NOT NULL,             -- HTTP status or gRPC code
    code           TEXT   NOT NULL,
    reason         TEXT   NOT NULL,
    diagnostics    TEXT   NOT NULL,             -- JSON: name -> value
    address        TEXT,                        -- IP address
    correlation_id TEXT
);
CREATE INDEX denied_requests_at ON denied_requests (at);

-- Results of requests with an `Idempotency-Key`, so that a retry finds what the first request created.
CREATE TABLE idempotency_keys (
    actor        TEXT   NOT NULL,
    key_hash     BYTEA  NOT NULL,               -- SHA-256
    request_hash BYTEA  NOT NULL,               -- SHA-256 of operation and body
    resource     TEXT   NOT NULL,               -- id of what was created
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (actor, key_hash)
);
CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);

-- Filters and orders of the admin API's lists. LIKE 'prefix%' needs an index of its own operator class.
CREATE INDEX users_email_prefix ON users (email_canonical text_pattern_ops);
CREATE INDEX users_username_prefix ON users (username_canonical text_pattern_ops);
CREATE INDEX users_role ON users (role, id);
CREATE INDEX clients_source ON clients (source, id);
CREATE INDEX revocations_target ON revocations (target, number);
-- Every login adds to these. Without the column of the order PostgreSQL stores a value once for all its rows; the lists
-- are planned for the values they filter by, and read the newest rows instead where those match often enough.
CREATE INDEX sessions_client_id ON sessions (client_id);
CREATE INDEX audit_log_actor ON audit_log (actor);
CREATE INDEX audit_log_subject ON audit_log (subject);
CREATE INDEX audit_log_action ON audit_log (action);
