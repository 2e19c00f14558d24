-- What each domain's schema gets from the event log: its outbox, and the cursors and dead letters of its consumer.

CREATE TABLE outbox (
    seq               bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    txid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
    partition         int NOT NULL,
    topic             text NOT NULL,
    key               text NOT NULL,
    id                uuid NOT NULL,
    type              text NOT NULL,
    version           int NOT NULL,
    aggregate_version bigint NOT NULL,
    occurred_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload           json NOT NULL,
    traceparent       text
);
CREATE INDEX outbox_txid ON outbox (txid);

CREATE TABLE event_cursor (
    source      text NOT NULL,               -- the publishing domain
    partition   int NOT NULL,
    snapshot    pg_snapshot NOT NULL,        -- everything visible in it has been handled ...
    upto        pg_snapshot,                 -- ... and of what is visible in this one, all up to last_seq
    last_seq    bigint NOT NULL DEFAULT 0,
    owner       text NOT NULL DEFAULT '',
    epoch       bigint NOT NULL DEFAULT 0,   -- raised at each take-over; an old owner's commit finds another one
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (source, partition)
) WITH (fillfactor = 50);

CREATE TABLE event_member (                  -- workers that live, to share the partitions out among them
    source     text NOT NULL,
    worker     text NOT NULL,
    seen_until timestamptz NOT NULL,
    PRIMARY KEY (source, worker)
) WITH (fillfactor = 50);

CREATE TABLE dead_letter (
    source    text NOT NULL,
    seq       bigint NOT NULL,
    partition int NOT NULL,
    key       text NOT NULL,
    id        uuid NOT NULL,
    type      text NOT NULL,
    version   int NOT NULL,
    aggregate_version bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    payload   json NOT NULL,
    error     text NOT NULL,
    tries     int NOT NULL DEFAULT 0,
    retry_at  timestamptz,                   -- on a key's first event only; none: given up until it is requeued
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, seq)
);
CREATE INDEX dead_letter_key ON dead_letter (source, key, seq);
CREATE INDEX dead_letter_retry ON dead_letter (source, retry_at) WHERE retry_at IS NOT NULL;
