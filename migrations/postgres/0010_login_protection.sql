-- Where users have logged in before, and guesses at passwords and codes.

-- Devices (the hash of a cookie) and networks in which a user has logged in. Bounded per user:
-- storage::known_sources.
CREATE TABLE known_sources (
    user_id TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    source  TEXT   NOT NULL,
    seen_at BIGINT NOT NULL,                    -- the last login, to a day
    PRIMARY KEY (user_id, source)
);
CREATE INDEX known_sources_seen_at ON known_sources (seen_at);

-- Wrong guesses in a row: of each known source of a user, and of all others together ('').
CREATE TABLE guesses (
    account       TEXT   NOT NULL,              -- a user id, or the slot of a login that nobody has
    kind          TEXT   NOT NULL,              -- 'password' or 'code'
    source        TEXT   NOT NULL,
    login_tag     TEXT   NOT NULL,              -- whose slot it is: HMAC of the login; a user: ''
    failures      BIGINT NOT NULL,              -- since a success or a quiet time
    total         BIGINT NOT NULL,              -- since a success
    delay         BIGINT NOT NULL,              -- microseconds
    blocked_until BIGINT NOT NULL,              -- nothing is checked before
    failed_at     BIGINT NOT NULL,
    PRIMARY KEY (account, kind, source)
);
CREATE INDEX guesses_failed_at ON guesses (failed_at);

-- When the user was last told by mail of a login from a new device.
ALTER TABLE users ADD COLUMN login_notice_at BIGINT;
