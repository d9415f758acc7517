-- Who plays here. Tokens, recovery codes and invites are kept as SHA-256 digests: a copy of this file opens no door.
-- Times are milliseconds since 1970.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    digest BLOB NOT NULL PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (id),
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user);
CREATE INDEX sessions_expires ON sessions (expires_ms);

CREATE TABLE recovery_codes (
    user TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    digest BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `uses_left` and `expires_ms` are NULL where there is no limit.
CREATE TABLE invites (
    digest BLOB NOT NULL PRIMARY KEY,
    room TEXT NOT NULL,
    role TEXT NOT NULL,
    uses_left INTEGER,
    expires_ms INTEGER,
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invites_room ON invites (room);
