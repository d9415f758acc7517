-- What the care of the database changed and whether that helped: an index, the statement that it was for, the statement's
-- measured time before and after. `verdict` is 'begun' while an index is being tried. Times are seconds since 1970.
CREATE TABLE care_ledger (
    id TEXT NOT NULL PRIMARY KEY,
    at REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0),
    change TEXT NOT NULL,
    index_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    statement TEXT NOT NULL,
    before_ms REAL NOT NULL,
    after_ms REAL NOT NULL DEFAULT 0,
    verdict TEXT NOT NULL DEFAULT 'begun',
    reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX care_ledger_at ON care_ledger (at, id);

-- The newest moment of each schedule that was begun.
CREATE TABLE schedule_turns (
    kind TEXT NOT NULL PRIMARY KEY,
    due INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
