-- Paying in a provider's window: a session is opened for one attempt, and its token is bound to that provider.

ALTER TABLE payment DROP CONSTRAINT payment_state_check, ADD CONSTRAINT payment_state_check
    CHECK (state IN ('processing', 'waiting', 'unknown', 'succeeded', 'declined', 'failed', 'refunding', 'refunded'));
DROP INDEX payment_live;
CREATE UNIQUE INDEX payment_live ON payment (order_id)
    WHERE state IN ('processing', 'waiting', 'unknown', 'succeeded', 'refunding');

ALTER TABLE attempt ADD method text NOT NULL DEFAULT 'card' CHECK (method IN ('card', 'window', 'virtual_account')),
    DROP CONSTRAINT attempt_state_check, ADD CONSTRAINT attempt_state_check
    -- opening: the provider is asked for a session. window: the buyer is there, and nothing is taken without our confirm.
    -- closing: it will not be confirmed any more, and the provider is told so. sending: the confirm is under way.
    CHECK (state IN ('opening', 'window', 'closing', 'sending', 'not_sent', 'not_executed', 'declined', 'pending',
                     'succeeded', 'unknown', 'late_success'));
DROP INDEX attempt_live, attempt_to_resolve;
CREATE UNIQUE INDEX attempt_live ON attempt (payment_id)
    WHERE state IN ('opening', 'window', 'closing', 'sending', 'unknown', 'pending');
CREATE INDEX attempt_to_resolve ON attempt (next_inquiry_at)
    WHERE state IN ('opening', 'window', 'closing', 'sending', 'unknown', 'pending');

CREATE TABLE session (                        -- of a payment that is made in a window; its last attempt is the one in it
    payment_id      uuid PRIMARY KEY,
    title           text NOT NULL,            -- what the buyer reads there
    return_url      text NOT NULL,            -- where the window sends the buyer back to
    expires_at      timestamptz NOT NULL,     -- from then on it is not confirmed any more
    client          json,                     -- what the browser needs, where it cannot be had again
    token           text NOT NULL DEFAULT '', -- what the window gave the buyer: worth nothing without our secret key
    confirm_key     text NOT NULL DEFAULT '', -- the request that confirmed, and what it said
    confirm_hash    text NOT NULL DEFAULT '',
    returned_code   text NOT NULL DEFAULT '', -- why the buyer came back without having paid, as the browser tells it
    deposit_bank    text NOT NULL DEFAULT '', -- the account that is waiting for the buyer's transfer
    deposit_number  text NOT NULL DEFAULT '',
    deposit_due     text NOT NULL DEFAULT '',
    refund_to       json                      -- the buyer's own account, where a transfer goes back to
);
