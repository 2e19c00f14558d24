-- Each query must return no rows, at any moment, whatever was killed.

-- succeeded_has_evidence: a payment that succeeded has exactly one attempt that did.
SELECT p.id FROM payment p
 WHERE p.state IN ('succeeded', 'refunding', 'refunded')
   AND 1 <> (SELECT count(*) FROM attempt a WHERE a.payment_id = p.id AND a.state = 'succeeded');

-- settled_has_no_live_attempt: nothing is open under a payment that is settled.
SELECT p.id FROM payment p JOIN attempt a ON a.payment_id = p.id AND a.state IN
       ('opening', 'window', 'closing', 'sending', 'unknown', 'pending')
 WHERE p.state NOT IN ('processing', 'waiting', 'unknown');

-- waits_in_a_session: whoever waits in a window has a session.
SELECT p.id FROM payment p WHERE p.state = 'waiting' AND NOT EXISTS (SELECT 1 FROM session s WHERE s.payment_id = p.id);

-- amounts_agree: an attempt asks for what the payment says.
SELECT p.id FROM payment p JOIN attempt a ON a.payment_id = p.id
 WHERE (a.amount_minor, a.currency) IS DISTINCT FROM (p.amount_minor, p.currency);

-- refund_cannot_exceed_capture: what goes back is at most what came in.
SELECT p.id FROM payment p JOIN refund r ON r.payment_id = p.id
 GROUP BY p.id, p.amount_minor, r.provider_id HAVING sum(r.amount_minor) > p.amount_minor;

-- refunded_has_refund: a refunded payment has a refund that succeeded.
SELECT p.id FROM payment p
 WHERE p.state = 'refunded' AND NOT EXISTS (SELECT 1 FROM refund r WHERE r.payment_id = p.id AND r.state = 'succeeded');

-- refunds_are_counted: a payment knows how much of it is on its way back, and how much has gone.
SELECT p.id FROM payment p LEFT JOIN (
       SELECT payment_id, sum(amount_minor) AS asked, sum(amount_minor) FILTER (WHERE state = 'succeeded') AS gone
         FROM refund WHERE NOT is_late GROUP BY payment_id) r ON r.payment_id = p.id
 WHERE p.returning_minor <> coalesce(r.asked, 0) OR p.returned_minor <> coalesce(r.gone, 0);

-- refunding_means_all: a payment is being refunded when all of it goes back, and refunded when all of it has gone.
SELECT p.id FROM payment p
 WHERE p.state IN ('succeeded', 'refunding', 'refunded')
   AND p.state <> CASE WHEN p.returned_minor = p.amount_minor THEN 'refunded'
                       WHEN p.returning_minor = p.amount_minor THEN 'refunding' ELSE 'succeeded' END;
