-- Invitations to register, and browsers in which a user is not asked for the second factor.

CREATE TABLE invitations (
    id         TEXT    NOT NULL PRIMARY KEY,
    token_hash BYTEA   NOT NULL UNIQUE,         -- SHA-256 of the token in the link
    email      TEXT,                            -- the address that it is for; NULL: any
    is_mailed  BOOLEAN NOT NULL,                -- sent there: its use verifies the address
    role       TEXT    NOT NULL,
    modules    TEXT    NOT NULL,                -- JSON: granted at the registration
    created_by TEXT    NOT NULL,                -- a user id, a client id or 'cli'
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    used_at    BIGINT,
    used_by    TEXT    REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX invitations_expires_at ON invitations (expires_at);
CREATE INDEX invitations_used_by ON invitations (used_by) WHERE used_by IS NOT NULL;

-- Bounded per user: storage::remembered_devices.
CREATE TABLE remembered_devices (
    id           TEXT   NOT NULL PRIMARY KEY,
    user_id      TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash   BYTEA  NOT NULL,               -- SHA-256 of a cookie
    device       TEXT   NOT NULL,               -- the hash of the device cookie
    user_agent   TEXT,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    expires_at   BIGINT NOT NULL,
    UNIQUE (user_id, token_hash)
);
CREATE INDEX remembered_devices_token_hash ON remembered_devices (token_hash);
CREATE INDEX remembered_devices_expires_at ON remembered_devices (expires_at);

-- The version of the terms that the user has accepted, and when.
ALTER TABLE users ADD COLUMN terms_version TEXT;
ALTER TABLE users ADD COLUMN terms_accepted_at BIGINT;
