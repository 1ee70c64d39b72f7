-- What OAuth 2.1 and OpenID Connect need beside sessions: scopes, resources, consents and short-lived
-- protocol state.

-- Descriptions of scopes for the consent page: {"en": "...", "ru": "..."}.
CREATE TABLE scopes (
    name         TEXT NOT NULL PRIMARY KEY,
    descriptions TEXT NOT NULL
);

-- Resources that tokens can be requested for (RFC 8707).
CREATE TABLE resources (
    id            TEXT   NOT NULL PRIMARY KEY,  -- the `aud`: an absolute URI
    name          TEXT   NOT NULL,
    scope         TEXT,                         -- scopes it accepts; NULL: any scope of the client
    default_scope TEXT   NOT NULL,              -- granted where the request names no scope
    created_at    BIGINT NOT NULL
);

-- Scopes that a user has granted to a client, per set of resources ('' where none was named).
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
    id         BLOB   NOT NULL PRIMARY KEY,     -- SHA-256 of the random part of the request_uri
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    parameters TEXT   NOT NULL,                 -- form-encoded
    used_by    TEXT,                            -- browser session that used it and may repeat it (RFC 9126 §4)
    expires_at BIGINT NOT NULL
);
CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

-- Device authorization requests (RFC 8628).
CREATE TABLE device_authorizations (
    id                 BLOB   NOT NULL PRIMARY KEY, -- SHA-256 of the device code
    user_code          TEXT   NOT NULL UNIQUE,      -- without its hyphen
    client_id          TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    scope              TEXT   NOT NULL,
    resource           TEXT   NOT NULL,             -- resources, separated by spaces
    state              TEXT   NOT NULL,             -- pending, approved, denied
    browser_session_id TEXT,                        -- where the user code was entered: it alone may decide
    session_id         TEXT,                        -- what an approval opened: begins when the device code is used
    poll_interval      BIGINT NOT NULL,             -- microseconds; each `slow_down` lengthens it
    last_poll_at       BIGINT,
    network            TEXT   NOT NULL,             -- of the device, for its quota
    address            TEXT   NOT NULL,
    user_agent         TEXT,
    created_at         BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL
);
CREATE INDEX device_authorizations_client_id ON device_authorizations (client_id, network);
CREATE INDEX device_authorizations_expires_at ON device_authorizations (expires_at);

-- Identifiers that are accepted once, such as the `jti` of a client assertion. Each `kind` is a
-- namespace of its own.
CREATE TABLE single_use_ids (
    kind       TEXT   NOT NULL,
    id         BLOB   NOT NULL,                 -- SHA-256 of owner and identifier
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX single_use_ids_expires_at ON single_use_ids (expires_at);

-- Initial access tokens for dynamic client registration (RFC 7591 section 3).
CREATE TABLE initial_access_tokens (
    id         TEXT   NOT NULL PRIMARY KEY,
    token_hash BLOB   NOT NULL UNIQUE,          -- SHA-256
    uses_left  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Queue of logout tokens (OpenID Connect Back-Channel Logout section 2.5).
CREATE TABLE logout_deliveries (
    id              TEXT   NOT NULL PRIMARY KEY,
    client_id       TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    subject         TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,            -- moved forward when taken, so that one process sends it
    created_at      BIGINT NOT NULL
);
CREATE INDEX logout_deliveries_next_attempt_at ON logout_deliveries (next_attempt_at);
CREATE INDEX logout_deliveries_client_id ON logout_deliveries (client_id, next_attempt_at);

-- Clients that did not respond to a logout token: none is sent before `retry_at`.
CREATE TABLE logout_back_offs (
    client_id TEXT   NOT NULL PRIMARY KEY REFERENCES clients (id) ON DELETE CASCADE,
    failures  BIGINT NOT NULL,                  -- in a row
    retry_at  BIGINT NOT NULL
);

-- Other servers whose JWTs are accepted: in a token exchange (RFC 8693), or as ID-JAGs.
CREATE TABLE trusted_issuers (
    id          TEXT   NOT NULL PRIMARY KEY,    -- the namespace of its subjects: [a-z0-9-]
    issuer      TEXT   NOT NULL UNIQUE,         -- the `iss` of its JWTs
    settings    TEXT   NOT NULL,                -- JSON: model::trusted_issuer::IssuerSettings
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,                -- strictly increasing: the entity tag of the row
    disabled_at BIGINT
);

-- Subjects of trusted issuers that an operator has linked to users of this server.
CREATE TABLE linked_subjects (
    issuer_id  TEXT   NOT NULL REFERENCES trusted_issuers (id) ON DELETE CASCADE,
    subject    TEXT   NOT NULL,                 -- the `sub` of the issuer's JWTs
    user_id    TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (issuer_id, subject)
);
CREATE INDEX linked_subjects_user_id ON linked_subjects (user_id);
