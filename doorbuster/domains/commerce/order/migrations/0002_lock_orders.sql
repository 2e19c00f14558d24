-- Lock a batch's orders and then read them with their last transition, and the clock, in one call: while the rows are
-- locked, each round trip costs a busy process a turn of its loop. The read is a statement of its own: one that had
-- waited for the lock itself would see the new order but the old transitions, and find no order at all.
-- There is always one row at least, for its `moment`.
CREATE FUNCTION lock_orders(p_ids uuid[]) RETURNS TABLE (
    moment timestamptz, id uuid, customer_id uuid, state text, version bigint, request_hash text, deal_id uuid,
    currency text, total_minor bigint, lines jsonb, ship_to jsonb, pays_at_once boolean, payment_id uuid,
    answer_version bigint, cancel_key text, cancel_hash text, pay_by timestamptz, attempt int, created_at timestamptz,
    updated_at timestamptz, code text, event text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF cardinality(p_ids) > 0 THEN
        PERFORM FROM orders o WHERE o.id = ANY(p_ids) ORDER BY o.id FOR UPDATE;
    END IF;
    RETURN QUERY
        SELECT clock_timestamp(), q.* FROM (VALUES (1)) AS always LEFT JOIN (
            SELECT o.id, o.customer_id, o.state, o.version, o.request_hash, o.deal_id, o.currency, o.total_minor,
                   o.lines, o.ship_to, o.pays_at_once, o.payment_id, o.answer_version, o.cancel_key, o.cancel_hash,
                   o.pay_by, o.attempt, o.created_at, o.updated_at, t.code, t.event
              FROM orders o JOIN transition t ON t.order_id = o.id AND t.version = o.version
             WHERE o.id = ANY(p_ids)) AS q ON true;
END $$;
