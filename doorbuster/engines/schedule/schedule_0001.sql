-- What each domain's schema gets from the scheduler: its jobs, their ticks, and the chunks that are finished.

CREATE TABLE batch_job (
    job           text PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('batch', 'sweep')),
    every         interval CHECK (every >= interval '10 milliseconds'),   -- counted from the epoch in UTC ...
    at            time,                        -- ... or daily at this time of day ...
    zone          text NOT NULL DEFAULT 'UTC', -- ... in this zone
    catch_up      text NOT NULL CHECK (catch_up IN ('latest', 'each')),
    catch_up_limit int NOT NULL CHECK (catch_up_limit BETWEEN 1 AND 10000),
    overlap       text NOT NULL CHECK (overlap IN ('wait', 'skip')),
    max_attempts  int NOT NULL CHECK (max_attempts >= 1),
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_until    timestamptz NOT NULL,        -- all ticks up to here are decided
    next_due      timestamptz NOT NULL,        -- the first tick after that
    succeeded_at  timestamptz,
    owner         text NOT NULL DEFAULT '',    -- these three of sweeps only: who sweeps now
    epoch         bigint NOT NULL DEFAULT 0,   -- raised at each take-over
    lease_until   timestamptz NOT NULL DEFAULT '-infinity',
    CHECK ((every IS NULL) <> (at IS NULL)),
    CHECK (seen_until < next_due)
) WITH (fillfactor = 50);

CREATE TABLE batch_run (
    job           text NOT NULL REFERENCES batch_job,
    scheduled_for timestamptz NOT NULL,        -- the tick itself is the key
    state         text NOT NULL CHECK (state IN ('due', 'running', 'done', 'failed', 'skipped')),
    by_hand       boolean NOT NULL DEFAULT false,
    owner         text NOT NULL DEFAULT '',
    epoch         bigint NOT NULL DEFAULT 0,   -- raised at each start; an old owner's commit finds another one
    lease_until   timestamptz,
    due_at        timestamptz NOT NULL,        -- not to be started before
    attempts      int NOT NULL DEFAULT 0,
    started_at    timestamptz,                 -- the last attempt
    ended_at      timestamptz,
    error         text,
    result        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, scheduled_for),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('done', 'failed', 'skipped')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX batch_run_running ON batch_run (job) WHERE state = 'running';
CREATE INDEX batch_run_due ON batch_run (job, due_at) WHERE state = 'due';

CREATE TABLE batch_chunk (
    job           text NOT NULL,
    scheduled_for timestamptz NOT NULL,
    chunk         text NOT NULL,
    epoch         bigint NOT NULL,
    done_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job, scheduled_for, chunk),
    FOREIGN KEY (job, scheduled_for) REFERENCES batch_run ON DELETE CASCADE
);

-- The newest ticks in (after, upto], at most `most` of them, newest first.
CREATE FUNCTION batch_ticks(every interval, at time, zone text, after timestamptz, upto timestamptz, most int)
RETURNS SETOF timestamptz LANGUAGE sql STABLE AS $$
    SELECT DISTINCT tick FROM (
        SELECT date_bin(every, upto, timestamptz '1970-01-01 00:00:00Z') - n * every AS tick
        FROM generate_series(0, most) AS n WHERE every IS NOT NULL
        UNION ALL
        SELECT ((upto AT TIME ZONE zone)::date + 1 - n + at) AT TIME ZONE zone
        FROM generate_series(0, most + 2) AS n WHERE at IS NOT NULL
    ) AS near WHERE tick > after AND tick <= upto ORDER BY tick DESC LIMIT most
$$;

-- The first tick after a moment. A day has one, also when the clocks change.
CREATE FUNCTION batch_next(every interval, at time, zone text, after timestamptz)
RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT min(tick) FROM (
        SELECT date_bin(every, after, timestamptz '1970-01-01 00:00:00Z') + every AS tick WHERE every IS NOT NULL
        UNION ALL
        SELECT ((after AT TIME ZONE zone)::date + n + at) AT TIME ZONE zone
        FROM generate_series(-1, 3) AS n WHERE at IS NOT NULL
    ) AS near WHERE tick > after
$$;
