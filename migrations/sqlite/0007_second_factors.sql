-- Second factors of users, recovery codes, and the count of wrong codes.

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

-- Wrong codes in a row, of each network in which a user has used a factor before, and of all others
-- together (''). Rows of networks are bounded: storage::second_factors.
CREATE TABLE second_factor_attempts (
    user_id       TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network       TEXT   NOT NULL,
    failures      BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,              -- no code is checked before
    succeeded_at  BIGINT,                       -- NULL in the row of all other networks
    PRIMARY KEY (user_id, network)
);
