-- What the care of the database changed and whether that helped: an index, the statement that it was for, the statement's
-- measured time before and after. `verdict` is 'begun' while an index is being tried.
CREATE TABLE care_ledger (
    id text PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    change text NOT NULL,
    index_name text NOT NULL,
    table_name text NOT NULL,
    statement text NOT NULL,
    before_ms double precision NOT NULL,
    after_ms double precision NOT NULL DEFAULT 0,
    verdict text NOT NULL DEFAULT 'begun',
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX care_ledger_at ON care_ledger (at, id);

-- The newest moment of each schedule that an instance has taken upon itself, in seconds since 1970.
CREATE TABLE schedule_turns (
    kind text PRIMARY KEY,
    due bigint NOT NULL
);
