-- The outbox by days: rows are never deleted one by one, a whole day goes when everybody has handled it. And who listens,
-- how far each listener says that it is, and which cluster the transaction ids of this log belong to.

ALTER TABLE outbox RENAME TO outbox_before;
ALTER INDEX outbox_txid RENAME TO outbox_before_txid;
ALTER TABLE outbox_before ALTER COLUMN seq DROP IDENTITY;
ALTER TABLE outbox_before DROP CONSTRAINT outbox_pkey;

-- A plain sequence: PostgreSQL 15 and 16 know no identity columns in partitioned tables.
CREATE SEQUENCE outbox_seq AS bigint CACHE 1;
SELECT setval('outbox_seq', coalesce(max(seq), 0) + 1, false) FROM outbox_before;

CREATE TABLE outbox (LIKE outbox_before INCLUDING DEFAULTS) PARTITION BY RANGE (occurred_at);
ALTER TABLE outbox ALTER COLUMN seq SET DEFAULT nextval('outbox_seq');
ALTER SEQUENCE outbox_seq OWNED BY outbox.seq;
CREATE INDEX outbox_by_seq ON outbox (seq);
CREATE INDEX outbox_by_txid ON outbox (txid);

CREATE TABLE outbox_day (                    -- the partitions; there is none for "everything else", see designs/
    name    text PRIMARY KEY,
    from_at timestamptz NOT NULL,
    to_at   timestamptz NOT NULL UNIQUE
);

CREATE FUNCTION make_outbox_days(ahead int) RETURNS int LANGUAGE plpgsql AS $$
-- Makes the days from today (UTC) to so many days ahead, those that are not there. Writers are not held up: attaching
-- an empty table does not conflict with inserts. Two at once wait for each other.
DECLARE
    today timestamptz := date_trunc('day', clock_timestamp(), 'UTC');
    start timestamptz;
    day   text;
    made  int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('make_outbox_days'), hashtext(current_schema()));
    FOR n IN 0..ahead LOOP
        start := today + n * interval '24 hours';
        CONTINUE WHEN EXISTS (SELECT FROM outbox_day WHERE from_at <= start AND to_at > start);
        day := 'outbox_' || to_char(start AT TIME ZONE 'UTC', 'YYYYMMDD');
        EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING DEFAULTS)', day);
        EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       day, start, start + interval '24 hours');
        INSERT INTO outbox_day VALUES (day, start, start + interval '24 hours');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION make_outbox_days(int) FROM PUBLIC;

-- What there is already becomes the first "day", up to tomorrow.
DO $$
DECLARE tomorrow timestamptz := date_trunc('day', clock_timestamp(), 'UTC') + interval '24 hours';
BEGIN
    IF EXISTS (SELECT FROM outbox_before) THEN
        EXECUTE format('ALTER TABLE outbox ATTACH PARTITION outbox_before FOR VALUES FROM (MINVALUE) TO (%L)', tomorrow);
        INSERT INTO outbox_day VALUES ('outbox_before', '-infinity', tomorrow);
    ELSE
        DROP TABLE outbox_before;
    END IF;
END $$;
SELECT make_outbox_days(7);

CREATE TABLE outbox_reader (                 -- how far each listener is, as it reports itself, half a minute late at most
    consumer    text NOT NULL,
    partition   int NOT NULL,
    types       text[] NOT NULL,
    snapshot    pg_snapshot NOT NULL DEFAULT '1:1:',
    upto        pg_snapshot,
    last_seq    bigint NOT NULL DEFAULT 0,
    reported_at timestamptz,
    PRIMARY KEY (consumer, partition)
);

CREATE TABLE outbox_home (                   -- transaction ids mean nothing in another cluster (a restored dump)
    only_one          boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    system_identifier bigint NOT NULL,
    -- Copies of a cluster share the identifier; a row that was restored carries another xmin than it says here.
    made_by           xid8 NOT NULL DEFAULT pg_current_xact_id()
);
INSERT INTO outbox_home (system_identifier) SELECT system_identifier FROM pg_control_system();

CREATE TABLE event_audit (                   -- what people did to dead letters and cursors of this schema's consumer
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text NOT NULL,
    action text NOT NULL,
    source text NOT NULL,
    key    text,
    seq    bigint,
    note   text NOT NULL DEFAULT ''
);
