-- Accounts whose users have requested their deletion.

-- When the account is deleted; NULL: no deletion was requested.
ALTER TABLE users ADD COLUMN deletion_at BIGINT;
-- An administrator has disabled the account meanwhile: its user cannot cancel the deletion.
ALTER TABLE users ADD COLUMN deletion_is_final BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX users_deletion_at ON users (deletion_at) WHERE deletion_at IS NOT NULL;
