-- Orders with their process state, every transition they made, and how far the scan for orphaned holds has come.

CREATE TABLE orders (
    id             uuid PRIMARY KEY,             -- derived from (customer, Idempotency-Key); also the reservation's id
    customer_id    uuid NOT NULL,
    state          text NOT NULL,
    version        bigint NOT NULL DEFAULT 1,
    request_hash   text NOT NULL,
    deal_id        uuid,
    currency       text NOT NULL,
    total_minor    bigint NOT NULL CHECK (total_minor >= 0),
    lines          jsonb NOT NULL,               -- as placed; never changed, so one row keeps a placement cheap
    ship_to        jsonb,
    pays_at_once   boolean NOT NULL,
    payment_id     uuid,                         -- the last payment begun
    answer_version bigint,                       -- the version that answered the placing request; repeats answer alike
    cancel_key     text,
    cancel_hash    text,
    pay_by         timestamptz NOT NULL,
    step_deadline  timestamptz,                  -- when the sweeper takes over; null when there is nothing left to do
    attempt        int NOT NULL DEFAULT 0,       -- how often the sweeper has
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX orders_customer ON orders (customer_id, created_at DESC, id DESC);
CREATE INDEX orders_to_sweep ON orders (step_deadline) WHERE step_deadline IS NOT NULL;

CREATE TABLE transition (
    order_id   uuid NOT NULL,                -- of orders; no foreign key: it is written with its order, and a check each costs
    version    bigint NOT NULL,
    event      text NOT NULL,
    state      text NOT NULL,
    payment_id uuid,
    code       text NOT NULL DEFAULT '',
    at         timestamptz NOT NULL,
    PRIMARY KEY (order_id, version)
);

CREATE TABLE scan (
    name text PRIMARY KEY,
    upto timestamptz NOT NULL
);
