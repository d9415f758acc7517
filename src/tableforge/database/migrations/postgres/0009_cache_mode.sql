-- The last order about the cache's emergency mode, for instances that were not there when it was given. One row: until when
-- it holds and when it was ordered, in seconds since 1970 by the clock of the instance that was asked; 0 ended it.
CREATE TABLE cache_mode (
    one integer PRIMARY KEY CHECK (one = 1),
    until double precision NOT NULL,
    ordered double precision NOT NULL
);
