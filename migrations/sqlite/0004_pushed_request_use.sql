-- The browser session that used a pushed authorization request: only it may repeat it (RFC 9126 §4).
ALTER TABLE pushed_requests ADD COLUMN used_by TEXT;
