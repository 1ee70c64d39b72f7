-- Mails that wait to be sent, and what the tokens in them are for.

CREATE TABLE mails (
    id              TEXT   NOT NULL PRIMARY KEY,
    kind            TEXT   NOT NULL,            -- model::mail::Content
    user_id         TEXT   REFERENCES users (id) ON DELETE CASCADE,
    recipient_hash  BYTEA  NOT NULL,            -- HMAC of the canonical address
    payload         TEXT,                       -- encrypted (JWE); NULL once it was sent or has failed
    state           TEXT   NOT NULL,            -- 'queued', 'sent', 'failed', 'suppressed'
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,            -- when it is of no use any more
    finished_at     BIGINT,
    error           TEXT                        -- the status of the last failure; no address
);
CREATE INDEX mails_queued ON mails (next_attempt_at) WHERE state = 'queued';
CREATE INDEX mails_created_at ON mails (created_at);
CREATE INDEX mails_user_id ON mails (user_id) WHERE user_id IS NOT NULL;

-- How many mails an address got, and a network requested, since the start of the window.
CREATE TABLE mail_quotas (
    id         BYTEA  NOT NULL PRIMARY KEY,     -- HMAC of what is counted
    count      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mail_quotas_expires_at ON mail_quotas (expires_at);

-- Single-use tokens in mails. A user's password or email change removes the user's.
CREATE TABLE email_tokens (
    id         TEXT   NOT NULL PRIMARY KEY,
    purpose    TEXT   NOT NULL,                 -- model::mail::Purpose
    token_hash BYTEA  NOT NULL UNIQUE,          -- SHA-256
    user_id    TEXT   REFERENCES users (id) ON DELETE CASCADE, -- NULL: a registration
    email      TEXT   NOT NULL,                 -- the address that it is about, as entered
    detail     TEXT,                            -- JSON: the registration
    code_hash  BYTEA,                           -- HMAC of the code, where there is one
    attempts   BIGINT NOT NULL,                 -- guesses of the code so far
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX email_tokens_user_id ON email_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX email_tokens_expires_at ON email_tokens (expires_at);
