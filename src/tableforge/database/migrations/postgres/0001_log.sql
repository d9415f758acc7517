-- The event log. Every key begins with the room, so that a distributed PostgreSQL can spread rooms.
-- An append is guarded by its room's row here, the only one that changes all the time: half of each page stays free, so
-- that its versions stay on their page and touch no index.
CREATE TABLE room_heads (
    room text PRIMARY KEY,
    head bigint NOT NULL,
    epoch text NOT NULL,
    deleted_at text
) WITH (fillfactor = 50);

-- What listings know of a room. `place` orders rooms by age.
CREATE TABLE rooms (
    id text PRIMARY KEY,
    place bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    visibility text NOT NULL,
    tags text[] NOT NULL
);
CREATE INDEX rooms_place ON rooms (place);
CREATE INDEX rooms_public ON rooms (place) WHERE visibility = 'public';

CREATE TABLE seats (
    room text NOT NULL,
    "user" text NOT NULL,
    role text NOT NULL,
    PRIMARY KEY (room, "user")
);
CREATE INDEX seats_user ON seats ("user");

-- `key` and `digest` stand on the last event of a command.
CREATE TABLE events (
    room text NOT NULL,
    seq bigint NOT NULL,
    version integer NOT NULL,
    data bytea NOT NULL,
    key bytea,
    digest bytea,
    PRIMARY KEY (room, seq)
);
CREATE UNIQUE INDEX events_key ON events (room, key) WHERE key IS NOT NULL;

-- The data is compressed already.
CREATE TABLE snapshots (
    room text NOT NULL,
    seq bigint NOT NULL,
    version integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (room, seq)
);
ALTER TABLE snapshots ALTER COLUMN data SET STORAGE EXTERNAL;
