-- Who plays here. Tokens, recovery codes and invites are kept as SHA-256 digests: a copy of this database opens no door.
-- Times are milliseconds since 1970.
CREATE TABLE users (
    id text PRIMARY KEY,
    name text NOT NULL,
    created_ms bigint NOT NULL
);

CREATE TABLE sessions (
    digest bytea PRIMARY KEY,
    "user" text NOT NULL REFERENCES users (id),
    created_ms bigint NOT NULL,
    seen_ms bigint NOT NULL,
    expires_ms bigint NOT NULL
);
CREATE INDEX sessions_user ON sessions ("user");
CREATE INDEX sessions_expires ON sessions (expires_ms);

CREATE TABLE recovery_codes (
    "user" text PRIMARY KEY REFERENCES users (id),
    digest bytea NOT NULL UNIQUE,
    created_ms bigint NOT NULL
);

-- `uses_left` and `expires_ms` are NULL where there is no limit.
CREATE TABLE invites (
    digest bytea PRIMARY KEY,
    room text NOT NULL,
    role text NOT NULL,
    uses_left bigint,
    expires_ms bigint,
    created_by text NOT NULL,
    created_ms bigint NOT NULL
);
CREATE INDEX invites_room ON invites (room);
