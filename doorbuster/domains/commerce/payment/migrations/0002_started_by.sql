-- Who may call the provider for a payment: the one request whose mark it carries. A request whose COMMIT was lost finds
-- its own mark when it is run again, and nobody else ever does.
ALTER TABLE payment ADD started_by uuid;

-- Lock payments and then read each with its last attempt, in one call (a statement that waited for the lock itself would
-- see the new payment beside the old attempt).
CREATE FUNCTION lock_payments(p_ids uuid[]) RETURNS TABLE (
    id uuid, order_id uuid, amount_minor bigint, currency text, state text, code text, request_hash text,
    version bigint, attempt attempt
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM payment p WHERE p.id = ANY(p_ids) ORDER BY p.id FOR UPDATE;
    RETURN QUERY
        SELECT p.id, p.order_id, p.amount_minor, p.currency, p.state, p.code, p.request_hash, p.version, a
          FROM payment p
          LEFT JOIN attempt a
            ON a.payment_id = p.id AND a.number = (SELECT max(number) FROM attempt WHERE payment_id = p.id)
         WHERE p.id = ANY(p_ids);
END $$;
