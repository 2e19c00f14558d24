-- Each query must return no rows, at any moment, whatever was killed.

-- state_is_last_transition: an order stands where its last transition left it, and none is missing.
SELECT o.id FROM orders o
 WHERE o.state IS DISTINCT FROM (SELECT t.state FROM transition t WHERE t.order_id = o.id AND t.version = o.version)
    OR o.version <> (SELECT count(*) FROM transition t WHERE t.order_id = o.id);

-- total_is_sum: an order costs what its lines cost.
SELECT o.id FROM orders o
 WHERE o.total_minor <> (SELECT sum((l->>'unit_price_minor')::bigint * (l->>'quantity')::bigint)
                           FROM jsonb_array_elements(o.lines) AS l);

-- moving_has_deadline: whatever is not at rest is looked at again. One that is paid may be, when its payment is in doubt.
SELECT id FROM orders
 WHERE state <> 'paid'
   AND (state NOT IN ('cancelled', 'expired', 'refunded_no_stock')) <> (step_deadline IS NOT NULL);

-- paid_has_payment: nobody is paid without a payment.
SELECT id FROM orders WHERE state IN ('paid', 'captured', 'refunding', 'refunded_no_stock') AND payment_id IS NULL;
