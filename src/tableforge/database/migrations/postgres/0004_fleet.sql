-- The instances of the fleet: who they are, when they were heard of by the database's clock, and their load in their own
-- words. `cut_off` is whether it cannot reach a server of the bus, `scaling` is whether an instance would serve beside others, `drain_asked` an order that its next heartbeat reads.
CREATE TABLE instances (
    id text PRIMARY KEY,
    incarnation text NOT NULL,
    version text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    connections bigint NOT NULL DEFAULT 0,
    rooms bigint NOT NULL DEFAULT 0,
    cpu double precision NOT NULL DEFAULT 0,
    loop_lag_ms double precision NOT NULL DEFAULT 0,
    cut_off boolean NOT NULL DEFAULT false,
    draining boolean NOT NULL DEFAULT false,
    drain_asked boolean NOT NULL DEFAULT false,
    weight integer NOT NULL DEFAULT 1,
    has_bus boolean NOT NULL DEFAULT false,
    scaling boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- What every instance must hear of even if the bus lost it: sign-outs, deleted rooms. Whoever gives a notice draws its
-- number; `txid` is what readers go on behind, since transactions become visible in another order than they began in.
CREATE TABLE notices (
    number bigint PRIMARY KEY,
    txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    about text NOT NULL
);
CREATE INDEX notices_txid ON notices (txid);
CREATE INDEX notices_at ON notices (at);
