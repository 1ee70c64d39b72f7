-- Second factors of users, and recovery codes.

CREATE TABLE second_factors (
    id            TEXT   NOT NULL PRIMARY KEY,
    user_id       TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind          TEXT   NOT NULL,              -- 'totp' (RFC 6238) or 'passkey' (WebAuthn)
    name          TEXT   NOT NULL,              -- chosen by the user
    secret_jwe    TEXT,                         -- totp: encrypted under the master key (JWE: dir, A256GCM)
    last_step     BIGINT,                       -- totp: the time step of the last accepted code
    credential_id BLOB   UNIQUE,                -- passkey
    credential    TEXT,                         -- passkey: JSON
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT
);
CREATE INDEX second_factors_user_id ON second_factors (user_id);

-- Unused recovery codes; each is accepted once.
CREATE TABLE recovery_codes (
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash BLOB NOT NULL,                   -- HMAC-SHA-256 of user and code
    PRIMARY KEY (user_id, code_hash)
);
