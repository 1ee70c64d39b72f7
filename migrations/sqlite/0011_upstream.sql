-- Identities of users at other OpenID providers, at which they log in.

CREATE TABLE upstream_identities (
    id            TEXT   NOT NULL PRIMARY KEY,
    user_id       TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    issuer        TEXT   NOT NULL,              -- the `iss` of the provider's ID tokens
    subject       TEXT   NOT NULL,              -- their `sub`
    created_at    BIGINT NOT NULL,
    last_login_at BIGINT,
    UNIQUE (issuer, subject),
    UNIQUE (user_id, issuer)                    -- one of each provider, so that their number is bounded
);
