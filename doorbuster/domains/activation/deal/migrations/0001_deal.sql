-- Time deals. Stock keeps the allotment and price keeps the deal price; here is what people read and what made them.

CREATE TABLE deals (
    id                 uuid PRIMARY KEY,
    merchant_id        uuid NOT NULL,
    title              text NOT NULL,
    request_hash       text NOT NULL,
    currency           text NOT NULL,
    per_customer_limit bigint,
    opens_at           timestamptz NOT NULL,
    closes_at          timestamptz NOT NULL,
    lines              jsonb NOT NULL,          -- option_id, item_id, quantity, price_minor, list_minor
    phase              text NOT NULL CHECK (phase IN ('preparing', 'ready', 'refused')),
    refusal            jsonb,
    sold_out_at        timestamptz,
    step_deadline      timestamptz,
    version            bigint NOT NULL DEFAULT 1,
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (opens_at < closes_at)
);
CREATE INDEX deals_by_close ON deals (closes_at DESC, id DESC) WHERE phase = 'ready';
CREATE INDEX deals_to_prepare ON deals (step_deadline) WHERE phase = 'preparing';
