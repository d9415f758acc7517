-- Game systems and room templates: what is kept at a desk and put on tables. `search` is the name folded for searching,
-- `tags` a JSON list, `version` the newest of its versions, `bytes` what the documents of all of them take. Times are
-- milliseconds since 1970.
CREATE TABLE designs (
    num INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    search TEXT NOT NULL,
    visibility TEXT NOT NULL,
    tags TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX designs_owner ON designs (owner, kind, created_ms, id);
CREATE INDEX designs_public ON designs (visibility, kind, created_ms, id);

-- Every version whole: what it was called, and JSON of the form that `form` numbers.
CREATE TABLE design_versions (
    design TEXT NOT NULL REFERENCES designs (id),
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    tags TEXT NOT NULL,
    form INTEGER NOT NULL,
    data TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (design, version)
) STRICT, WITHOUT ROWID;

-- Pictures get a number, which the index of their names goes by.
ALTER TABLE assets RENAME TO assets_unnumbered;
CREATE TABLE assets (
    num INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
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
) STRICT;
INSERT INTO assets (id, digest, kind, width, height, bytes, uploader, room, name, search, tags, created_ms)
    SELECT id, digest, kind, width, height, bytes, uploader, room, name, search, tags, created_ms
    FROM assets_unnumbered ORDER BY created_ms, id;
DROP TABLE assets_unnumbered;
CREATE INDEX assets_uploader ON assets (uploader, created_ms, id);
CREATE INDEX assets_room ON assets (room, created_ms, id) WHERE room IS NOT NULL;
CREATE INDEX assets_digest ON assets (digest);
CREATE INDEX rooms_listed ON rooms (num) WHERE visibility = 'public';

-- Every three characters of names and tags in turn; the rows themselves stay where they are.
CREATE VIRTUAL TABLE room_terms USING fts5 (name, tags, content='rooms', content_rowid='num', tokenize='trigram', detail='column');
CREATE TRIGGER room_terms_added AFTER INSERT ON rooms BEGIN
    INSERT INTO room_terms (rowid, name, tags) VALUES (new.num, new.name, new.tags);
END;
CREATE TRIGGER room_terms_changed AFTER UPDATE OF name, tags ON rooms WHEN (old.name, old.tags) <> (new.name, new.tags) BEGIN
    INSERT INTO room_terms (room_terms, rowid, name, tags) VALUES ('delete', old.num, old.name, old.tags);
    INSERT INTO room_terms (rowid, name, tags) VALUES (new.num, new.name, new.tags);
END;
INSERT INTO room_terms (rowid, name, tags) SELECT num, name, tags FROM rooms;

CREATE VIRTUAL TABLE asset_terms USING fts5 (search, tags, content='assets', content_rowid='num', tokenize='trigram', detail='column');
CREATE TRIGGER asset_terms_added AFTER INSERT ON assets BEGIN
    INSERT INTO asset_terms (rowid, search, tags) VALUES (new.num, new.search, new.tags);
END;
CREATE TRIGGER asset_terms_removed AFTER DELETE ON assets BEGIN
    INSERT INTO asset_terms (asset_terms, rowid, search, tags) VALUES ('delete', old.num, old.search, old.tags);
END;
INSERT INTO asset_terms (rowid, search, tags) SELECT num, search, tags FROM assets;

CREATE VIRTUAL TABLE design_terms USING fts5 (search, tags, content='designs', content_rowid='num', tokenize='trigram', detail='column');
CREATE TRIGGER design_terms_added AFTER INSERT ON designs BEGIN
    INSERT INTO design_terms (rowid, search, tags) VALUES (new.num, new.search, new.tags);
END;
CREATE TRIGGER design_terms_changed AFTER UPDATE OF search, tags ON designs WHEN (old.search, old.tags) <> (new.search, new.tags) BEGIN
    INSERT INTO design_terms (design_terms, rowid, search, tags) VALUES ('delete', old.num, old.search, old.tags);
    INSERT INTO design_terms (rowid, search, tags) VALUES (new.num, new.search, new.tags);
END;
