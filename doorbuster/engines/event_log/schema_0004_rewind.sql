-- A replay over Kafka: where the owner of a partition has to go back to before it reads on. And the trace of what is set
-- aside, which its handling joins when it is tried again.

ALTER TABLE inbox_owner ADD COLUMN rewind_to_ms bigint;      -- milliseconds since 1970; null: nowhere

ALTER TABLE dead_letter ADD COLUMN traceparent text NOT NULL DEFAULT '';
