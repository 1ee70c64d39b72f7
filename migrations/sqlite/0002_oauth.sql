-- Clients carry the metadata of RFC 7591 §2 as one JSON document; sessions begin as authorization codes; browsers
-- have sessions of their own.

-- `metadata` in the normal form of model::client::Metadata. `source` says who made the client: 'built_in', 'operator',
-- 'file' (clients.toml), 'registration' (RFC 7591) or 'document' (a client_id that is a URL).
ALTER TABLE clients ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE clients ADD COLUMN source TEXT NOT NULL DEFAULT 'operator';
ALTER TABLE clients ADD COLUMN old_secret_hash BLOB;            -- while a secret is being rotated two are good
ALTER TABLE clients ADD COLUMN old_secret_expires_at BIGINT;
ALTER TABLE clients ADD COLUMN registration_token_hash BLOB;    -- SHA-256; RFC 7592 §1.2
ALTER TABLE clients ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN expires_at BIGINT;               -- a registration that nobody has used yet
UPDATE clients SET updated_at = created_at, metadata = json_object('client_name', name, 'scope', scope);
UPDATE clients SET source = 'built_in' WHERE id = 'propusk';
ALTER TABLE clients DROP COLUMN name;
ALTER TABLE clients DROP COLUMN scope;

-- Swagger UI at /docs logs in by this one; its redirect URI follows from the issuer.
INSERT INTO clients (id, secret_hash, created_at, metadata, source)
VALUES ('propusk-docs', NULL, 0, '{"client_name":"Swagger UI","scope":"openid profile email","consent":"implicit",'
    || '"token_endpoint_auth_method":"none","grant_types":["authorization_code"]}', 'built_in');
INSERT INTO heads (name, number) VALUES ('clients', 0);

-- What a scope means, for the consent page: {"en": "…", "ru": "…"}.
CREATE TABLE scopes (
    name         TEXT NOT NULL PRIMARY KEY,
    descriptions TEXT NOT NULL
);

-- APIs that tokens may be asked for (RFC 8707). NULL scope: any scope of the client's.
CREATE TABLE resources (
    id            TEXT   NOT NULL PRIMARY KEY,   -- the `aud`: an absolute URI
    name          TEXT   NOT NULL,
    scope         TEXT,                          -- the scopes that mean something there
    default_scope TEXT   NOT NULL,               -- what a client gets that asks for none
    created_at    BIGINT NOT NULL
);

-- A browser that is logged in: what one opaque cookie stands for.
CREATE TABLE browser_sessions (
    id               TEXT   NOT NULL PRIMARY KEY,
    token_hash       BLOB NOT NULL UNIQUE,       -- SHA-256 of the cookie
    user_id          TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    authenticated_at BIGINT NOT NULL,              -- the `auth_time` of OpenID Connect
    amr              TEXT   NOT NULL,              -- RFC 8176, space-separated
    expires_at       BIGINT NOT NULL,
    ended_at         BIGINT,
    address          TEXT,
    user_agent       TEXT
);
CREATE INDEX browser_sessions_user_id ON browser_sessions (user_id);
CREATE INDEX browser_sessions_expires_at ON browser_sessions (expires_at);

-- An authorization code is a session that was not redeemed yet: redeeming is one UPDATE of one row, as a refresh is.
ALTER TABLE sessions ADD COLUMN browser_session_id TEXT REFERENCES browser_sessions (id) ON DELETE SET NULL;
ALTER TABLE sessions ADD COLUMN code_hash BLOB;          -- SHA-256 of the code
ALTER TABLE sessions ADD COLUMN redirect_uri TEXT;
ALTER TABLE sessions ADD COLUMN code_challenge TEXT;       -- RFC 7636 §4.2, S256; '' where the client sent none
ALTER TABLE sessions ADD COLUMN redeemed_at BIGINT;        -- NULL: the code was not redeemed
ALTER TABLE sessions ADD COLUMN authenticated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN outlives_browser BOOLEAN NOT NULL DEFAULT TRUE; -- offline_access, or no browser at all
ALTER TABLE sessions ADD COLUMN details TEXT;              -- JSON: model::session::Details
UPDATE sessions SET redeemed_at = created_at, authenticated_at = created_at;
CREATE INDEX sessions_browser_session_id ON sessions (browser_session_id) WHERE browser_session_id IS NOT NULL;

-- What a person allowed a client to do, per set of resources ('' where none was named).
CREATE TABLE consents (
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    resource   TEXT   NOT NULL,
    scope      TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, client_id, resource)
);

-- Pushed authorization requests (RFC 9126).
CREATE TABLE pushed_requests (
    id         BLOB NOT NULL PRIMARY KEY,        -- SHA-256 of the request_uri's secret part
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    parameters TEXT   NOT NULL,                    -- form-encoded
    expires_at BIGINT NOT NULL
);
CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

-- What may be used once: the `jti` of client assertions and the like. `kind` keeps one kind's ids from another's.
CREATE TABLE used_ids (
    kind       TEXT   NOT NULL,
    id         BLOB NOT NULL,                    -- SHA-256 of owner and id
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX used_ids_expires_at ON used_ids (expires_at);

-- Initial access tokens (RFC 7591 §3).
CREATE TABLE initial_access_tokens (
    id         TEXT   NOT NULL PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE,
    uses_left  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Logout tokens on their way to clients (OpenID Connect Back-Channel Logout §2.5).
CREATE TABLE logout_deliveries (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    subject    TEXT   NOT NULL,
    session_id TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,                    -- pushed forward by whoever takes it, so that one process sends it
    created_at BIGINT NOT NULL
);
CREATE INDEX logout_deliveries_next_at ON logout_deliveries (next_at);
