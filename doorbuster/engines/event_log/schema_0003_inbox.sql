-- What a consumer over Kafka has handled, and which worker may handle a partition: Kafka's word alone fences nobody.

-- Rows go by age, a range of the primary key at a time: event ids are UUIDv7, so they are ordered by time.
CREATE TABLE inbox (
    source     text NOT NULL,                -- the publishing domain
    event_id   uuid NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, event_id)
);

CREATE TABLE inbox_owner (
    source    text NOT NULL,
    partition int NOT NULL,
    owner     text NOT NULL DEFAULT '',
    epoch     bigint NOT NULL DEFAULT 0,     -- raised at each take-over; an old owner's commit finds another one
    PRIMARY KEY (source, partition)
) WITH (fillfactor = 50);
