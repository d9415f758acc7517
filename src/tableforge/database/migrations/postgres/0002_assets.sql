-- What was uploaded, one row an upload. `search` is the name folded for searching, `tags` a JSON list; `room` is NULL for
-- what belongs to its uploader alone.
CREATE TABLE assets (
    id text PRIMARY KEY,
    digest text NOT NULL,
    kind text NOT NULL,
    width bigint NOT NULL,
    height bigint NOT NULL,
    bytes bigint NOT NULL,
    uploader text NOT NULL,
    room text,
    name text NOT NULL,
    search text NOT NULL,
    tags text NOT NULL,
    created_ms bigint NOT NULL
);
CREATE INDEX assets_uploader ON assets (uploader, created_ms, id);
CREATE INDEX assets_room ON assets (room, created_ms, id) WHERE room IS NOT NULL;
CREATE INDEX assets_digest ON assets (digest);
