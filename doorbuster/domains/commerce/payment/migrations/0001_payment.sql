-- Payments, the attempts made for them, and refunds. An attempt is written before its first byte leaves.

CREATE TABLE payment (
    id              uuid PRIMARY KEY,
    order_id        uuid NOT NULL,
    customer_id     uuid NOT NULL,
    amount_minor    bigint NOT NULL CHECK (amount_minor > 0),
    currency        text NOT NULL,
    request_hash    text NOT NULL,
    state           text NOT NULL
                    CHECK (state IN ('processing', 'unknown', 'succeeded', 'declined', 'failed', 'refunding', 'refunded')),
    code            text NOT NULL DEFAULT '',
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
-- One live payment per order: whoever comes second is told of the first.
CREATE UNIQUE INDEX payment_live ON payment (order_id) WHERE state IN ('processing', 'unknown', 'succeeded', 'refunding');
CREATE INDEX payment_order ON payment (order_id);

CREATE TABLE attempt (
    payment_id      uuid NOT NULL,             -- of payment; written in the same statement's transaction
    number          int NOT NULL,
    provider        text NOT NULL,
    reference       text NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE,
    amount_minor    bigint NOT NULL,
    currency        text NOT NULL,
    state           text NOT NULL CHECK (state IN ('sending', 'not_sent', 'not_executed', 'declined', 'pending',
                                                   'succeeded', 'unknown', 'late_success')),
    provider_id     text NOT NULL DEFAULT '',
    code            text NOT NULL DEFAULT '',
    inquiries       int NOT NULL DEFAULT 0,
    next_inquiry_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (payment_id, number)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX attempt_live ON attempt (payment_id) WHERE state IN ('sending', 'unknown', 'pending');
CREATE INDEX attempt_to_resolve ON attempt (next_inquiry_at) WHERE state IN ('sending', 'unknown', 'pending');

CREATE TABLE refund (
    id              uuid PRIMARY KEY,
    payment_id      uuid NOT NULL REFERENCES payment,
    provider        text NOT NULL,
    provider_id     text NOT NULL,              -- the charge that is refunded
    amount_minor    bigint NOT NULL CHECK (amount_minor > 0),
    currency        text NOT NULL,
    reason          text NOT NULL,
    state           text NOT NULL CHECK (state IN ('sending', 'succeeded', 'refused')),
    code            text NOT NULL DEFAULT '',
    tries           int NOT NULL DEFAULT 0,
    next_try_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX refund_once ON refund (payment_id, provider_id);
CREATE INDEX refund_to_send ON refund (next_try_at) WHERE state = 'sending';
