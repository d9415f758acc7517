-- What was uploaded, one row an upload; bytes that came twice lie once, in a file named after their digest (sha256, hex).
-- `search` is the name folded for searching, `tags` a JSON list; `room` is NULL for what belongs to its uploader alone.
CREATE TABLE assets (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    uploader TEXT NOT NULL,
    room TEXT,
    name TEXT NOT NULL,
    search TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX assets_uploader ON assets (uploader, created_ms, id);
CREATE INDEX assets_room ON assets (room, created_ms, id) WHERE room IS NOT NULL;
CREATE INDEX assets_digest ON assets (digest);
