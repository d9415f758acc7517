-- The last order about the cache's emergency mode, for a server that starts again meanwhile. One row: until when it holds and
-- when it was ordered, in seconds since 1970; 0 ended it.
CREATE TABLE cache_mode (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    until REAL NOT NULL,
    ordered REAL NOT NULL
) STRICT;
