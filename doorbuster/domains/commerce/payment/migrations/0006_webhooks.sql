-- What providers tell by themselves: each event counts once, and only makes us look at the payment again.

CREATE TABLE webhook_event (
    account     text NOT NULL,
    event_id    text NOT NULL,
    kind        text NOT NULL,
    payment_id  uuid NOT NULL,
    number      int NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, event_id)
);
CREATE INDEX webhook_event_received ON webhook_event (received_at);

-- When to look at an attempt again although it is settled: a provider has said that something happened.
ALTER TABLE attempt ADD look_at timestamptz, ADD looked_at timestamptz;
CREATE INDEX attempt_to_look ON attempt (look_at) WHERE look_at IS NOT NULL;

-- Who the buyer is at the account, where its provider wants the customer beside the key.
ALTER TABLE instrument_key ADD customer text NOT NULL DEFAULT '';

ALTER TABLE matter DROP CONSTRAINT matter_kind_check,
    ADD CHECK (kind IN ('unknown_outcome', 'refund_refused', 'provider_differs'));
