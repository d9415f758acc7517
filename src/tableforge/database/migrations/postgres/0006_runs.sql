-- What was ordered or scheduled and done to the server itself: kept for a while, told by whichever instance is asked.
-- `ended` is NULL while it lasts; `seen` is when its instance last told of it; `actions` is JSON.
CREATE TABLE runs (
    id text PRIMARY KEY,
    kind text NOT NULL,
    instance text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended timestamptz,
    progress text NOT NULL DEFAULT '',
    actions text NOT NULL DEFAULT '[]'
);
CREATE INDEX runs_started ON runs (started, id);
