-- The event log. `num` stands for the room's id in the rows that are many.
CREATE TABLE rooms (
    num INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    name TEXT NOT NULL,
    visibility TEXT NOT NULL,
    tags TEXT NOT NULL,
    deleted_at TEXT
) STRICT;
CREATE INDEX rooms_public ON rooms (id) WHERE visibility = 'public' AND deleted_at IS NULL;

CREATE TABLE seats (
    user TEXT NOT NULL,
    room INTEGER NOT NULL REFERENCES rooms (num),
    role TEXT NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX seats_room ON seats (room);

-- Rows lie in the order of writing, which keeps a commit's pages few; the indexes give order and uniqueness.
-- `key` and `digest` stand on the last event of a command.
CREATE TABLE events (
    room INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL,
    key BLOB,
    digest BLOB
) STRICT;
CREATE UNIQUE INDEX events_order ON events (room, seq);
CREATE UNIQUE INDEX events_key ON events (key) WHERE key IS NOT NULL;

CREATE TABLE snapshots (
    room INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX snapshots_order ON snapshots (room, seq);
