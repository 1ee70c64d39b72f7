-- Profiles of users. A table of its own: each login writes a new version of the row of the user, and
-- only an application that asks for claims reads a profile.

CREATE TABLE profiles (
    user_id    TEXT   NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    claims     TEXT   NOT NULL,                 -- JSON: the claims of OpenID Connect Core 5.1
    updated_at BIGINT NOT NULL                  -- the claim updated_at: of the profile, names and role
);
