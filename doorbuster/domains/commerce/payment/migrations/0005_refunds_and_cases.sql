-- Part of the money may go back; what nothing settles is told to a person; an instrument may be kept under several keys.

ALTER TABLE payment
    -- Of the payment's own money: all that was asked to go back, and what of it has gone. The limit is held here, whoever asks.
    ADD returning_minor bigint NOT NULL DEFAULT 0,
    ADD returned_minor  bigint NOT NULL DEFAULT 0;
UPDATE payment p SET returning_minor = amount_minor, returned_minor = CASE state WHEN 'refunded' THEN amount_minor ELSE 0 END
 WHERE state IN ('refunding', 'refunded');
ALTER TABLE payment ADD CONSTRAINT refunds_within_capture
    CHECK (0 <= returned_minor AND returned_minor <= returning_minor AND returning_minor <= amount_minor);

ALTER TABLE refund
    -- Money that came after the payment had been settled without it: all of it goes back, and it is not the payment's own.
    ADD is_late    boolean NOT NULL DEFAULT false,
    ADD charge_reference text NOT NULL DEFAULT '',  -- the attempt that took the money
    ADD charged_minor bigint NOT NULL DEFAULT 0,    -- what it took
    ADD is_open    boolean NOT NULL DEFAULT false,  -- a try may have reached the provider: ask before trying anew
    ADD transaction_id text NOT NULL DEFAULT '',    -- the provider's id of what went back
    ADD settled_at timestamptz;
UPDATE refund r SET is_late = (r.reason = 'late_success'), charged_minor = a.amount_minor, charge_reference = a.reference
  FROM attempt a WHERE a.payment_id = r.payment_id AND a.provider_id = r.provider_id;
DROP INDEX refund_once;
CREATE INDEX refund_payment ON refund (payment_id, created_at);

-- What an attempt is called at the provider follows from its key, so two indexes of random text say nothing new; each
-- cost an entry at the attempt's beginning and another at its end.
ALTER TABLE attempt DROP CONSTRAINT attempt_reference_key, DROP CONSTRAINT attempt_idempotency_key_key,
    ADD CONSTRAINT named_by_its_key CHECK (reference = payment_id || '.' || number AND idempotency_key = reference);

CREATE TABLE instrument (                     -- a card somebody keeps with us, known to several providers by a key each
    id           uuid PRIMARY KEY,
    customer_id  uuid NOT NULL,
    label        text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX instrument_customer ON instrument (customer_id, created_at);
CREATE TABLE instrument_key (
    instrument_id uuid NOT NULL REFERENCES instrument ON DELETE CASCADE,
    provider      text NOT NULL,
    key           text NOT NULL,              -- worth nothing without our secret key at that provider
    PRIMARY KEY (instrument_id, provider)
);

CREATE TABLE matter (                         -- what a person must look at, until it is settled
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('unknown_outcome', 'refund_refused')),
    payment_id  uuid NOT NULL,
    number      int,                          -- the attempt
    refund_id   uuid,
    provider    text NOT NULL,
    code        text NOT NULL,                -- what the provider said last
    opened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at   timestamptz,
    closed_by   text NOT NULL DEFAULT '',
    note        text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX matter_open ON matter (kind, payment_id, coalesce(number, 0), coalesce(refund_id, payment_id))
    WHERE closed_at IS NULL;
CREATE INDEX matter_opened ON matter (opened_at, id);

CREATE TABLE operator_act (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor   text NOT NULL,
    what    text NOT NULL,
    account text NOT NULL,
    method  text NOT NULL,
    note    text NOT NULL
);

DROP FUNCTION lock_payments(uuid[]);
CREATE FUNCTION lock_payments(p_ids uuid[]) RETURNS TABLE (
    id uuid, order_id uuid, amount_minor bigint, currency text, state text, code text, request_hash text,
    version bigint, returning_minor bigint, returned_minor bigint, attempt attempt
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM payment p WHERE p.id = ANY(p_ids) ORDER BY p.id FOR UPDATE;
    RETURN QUERY
        SELECT p.id, p.order_id, p.amount_minor, p.currency, p.state, p.code, p.request_hash, p.version,
               p.returning_minor, p.returned_minor, a
          FROM payment p
          LEFT JOIN attempt a
            ON a.payment_id = p.id AND a.number = (SELECT max(number) FROM attempt WHERE payment_id = p.id)
         WHERE p.id = ANY(p_ids);
END $$;
