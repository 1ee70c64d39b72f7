-- Tokens of customer services (`[services.NAME]`), and the accounts that users have connected
-- there.

CREATE TABLE service_tokens (
    service            TEXT   NOT NULL,         -- the NAME
    subject            TEXT   NOT NULL,         -- '': the service's only token; else whose it is
    user_id            TEXT   REFERENCES users (id) ON DELETE CASCADE,
    session_id         TEXT   REFERENCES sessions (id) ON DELETE CASCADE, -- a user's token ends with it
    browser_session_id TEXT   REFERENCES browser_sessions (id) ON DELETE CASCADE, -- or with this one
    version            BIGINT NOT NULL,         -- tokens stored so far: a compare-and-swap
    sealed             TEXT,                    -- JWE under the master key: model::service_token::Secrets
    is_revocable       BOOLEAN NOT NULL DEFAULT FALSE, -- the service has an endpoint that revokes it
    settings           TEXT,                    -- fingerprint of the settings it was requested with
    obtained_at        BIGINT,
    renew_at           BIGINT,
    expires_at         BIGINT,                  -- of the access token; 0: it is not used any more
    discarded_at       BIGINT,                  -- when a resource refused one for the last time
    lease_id           TEXT,                    -- the process that requests a token
    lease_until        BIGINT,
    failures           BIGINT NOT NULL,         -- in a row
    retry_at           BIGINT,                  -- no request before
    failure            TEXT,                    -- model::service_token::FailureKind
    created_at         BIGINT NOT NULL,
    PRIMARY KEY (service, subject)
);
CREATE INDEX service_tokens_user_id ON service_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX service_tokens_session_id ON service_tokens (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX service_tokens_browser_session_id ON service_tokens (browser_session_id)
    WHERE browser_session_id IS NOT NULL;

-- Whichever way a session is revoked, its tokens go in the same transaction.
CREATE TRIGGER service_tokens_session_revoked AFTER UPDATE OF revoked_at ON sessions
    WHEN NEW.revoked_at IS NOT NULL
BEGIN
    DELETE FROM service_tokens WHERE session_id = NEW.id;
END;
CREATE TRIGGER service_tokens_browser_session_revoked AFTER UPDATE OF revoked_at ON browser_sessions
    WHEN NEW.revoked_at IS NOT NULL
BEGIN
    DELETE FROM service_tokens WHERE browser_session_id = NEW.id;
END;

-- Tokens of users that are to be revoked at their service (RFC 7009): queued by whichever transaction
-- removes them.
CREATE TABLE service_revocations (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    service         TEXT   NOT NULL,
    subject         TEXT   NOT NULL,            -- whose it was
    sealed          TEXT   NOT NULL,            -- as in service_tokens
    attempts        BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL
);
CREATE INDEX service_revocations_next ON service_revocations (next_attempt_at);
CREATE TRIGGER service_tokens_removed AFTER DELETE ON service_tokens
    WHEN OLD.is_revocable AND OLD.sealed IS NOT NULL
BEGIN
    INSERT INTO service_revocations (service, subject, sealed, attempts, next_attempt_at)
    VALUES (OLD.service, OLD.subject, OLD.sealed, 0, 0);
END;
