-- What was ordered or scheduled and done to the server itself, kept for a while. `ended` is NULL while it lasts; `seen` is
-- when the server last told of it; times are seconds since 1970, `actions` is JSON.
CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    instance TEXT NOT NULL,
    started REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    seen REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    ended REAL,
    progress TEXT NOT NULL DEFAULT '',
    actions TEXT NOT NULL DEFAULT '[]'
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_started ON runs (started, id);
