-- How many partitions each worker says that it holds: when they add up, nobody need look for free ones. And a fact as a
-- writer sends it: a row of a type of its own, which costs the server less than the same as JSON.

ALTER TABLE event_member ADD COLUMN holds int NOT NULL DEFAULT 0;

CREATE TYPE outbox_fact AS (
    partition int, topic text, key text, id uuid, type text, version int, aggregate_version bigint, payload json,
    traceparent text
);
