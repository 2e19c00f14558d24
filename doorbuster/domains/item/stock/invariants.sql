-- Each query must return no rows, at any moment, whatever was killed.

-- option_balances: what is reserved is what live reservations hold.
SELECT o.option_id, o.reserved, h.held
  FROM option_stock o
  LEFT JOIN LATERAL (
       SELECT coalesce(sum(l.quantity), 0) AS held
         FROM reservation r, unnest(r.option_ids, r.quantities) AS l(option_id, quantity)
        WHERE r.state = 'held' AND l.option_id = o.option_id) h ON true
 WHERE o.reserved <> h.held;

-- option_sold: what is sold is what claimed reservations took.
SELECT o.option_id, o.sold, h.claimed
  FROM option_stock o
  LEFT JOIN LATERAL (
       SELECT coalesce(sum(l.quantity), 0) AS claimed
         FROM reservation r, unnest(r.option_ids, r.quantities) AS l(option_id, quantity)
        WHERE r.state = 'claimed' AND l.option_id = o.option_id) h ON true
 WHERE o.sold <> h.claimed;

-- option_entries: sold + reserved + left = initial.
SELECT o.option_id, o.on_hand + o.sold AS stands, e.put_in
  FROM option_stock o
  LEFT JOIN LATERAL (SELECT coalesce(sum(delta), 0) AS put_in FROM stock_entry WHERE option_id = o.option_id) e ON true
 WHERE o.on_hand + o.sold <> e.put_in;

-- item_is_sum: an item's stock is the sum of its options'.
SELECT i.item_id
  FROM item_stock i
  FULL JOIN (SELECT item_id, sum(on_hand) AS on_hand, sum(reserved) AS reserved, sum(allotted) AS allotted,
                    sum(sold) AS sold
               FROM option_stock GROUP BY item_id) o USING (item_id)
 WHERE (i.on_hand, i.reserved, i.allotted, i.sold) IS DISTINCT FROM (o.on_hand, o.reserved, o.allotted, o.sold);

-- allotted_is_sum: what an option set aside is what its open allotments have remaining.
SELECT o.option_id
  FROM option_stock o
  LEFT JOIN (SELECT option_id, sum(remaining) AS remaining FROM allotment GROUP BY option_id) a USING (option_id)
 WHERE o.allotted <> coalesce(a.remaining, 0);

-- allotment_reserved: what an allotment has reserved and sold is what reservations under its deal say.
SELECT a.deal_id, a.option_id
  FROM allotment a
  LEFT JOIN LATERAL (
       SELECT coalesce(sum(l.quantity) FILTER (WHERE r.state = 'held'), 0) AS held,
              coalesce(sum(l.quantity) FILTER (WHERE r.state = 'claimed'), 0) AS claimed
         FROM reservation r, unnest(r.option_ids, r.quantities) AS l(option_id, quantity)
        WHERE r.deal_id = a.deal_id AND l.option_id = a.option_id) h ON true
 WHERE a.reserved <> h.held OR a.sold <> h.claimed;

-- limits_kept: nobody holds more of a deal than its limit.
SELECT c.deal_id, c.customer_id, c.taken
  FROM counter c JOIN (SELECT deal_id, min(per_customer_limit) AS cap FROM allotment GROUP BY deal_id) a USING (deal_id)
 WHERE c.taken > a.cap;

-- counter_is_sum: a counter says what the customer's live reservations hold.
SELECT deal_id, customer_id
  FROM counter c
  FULL JOIN (SELECT deal_id, customer_id, sum(q) AS held
               FROM reservation r, unnest(r.quantities) AS q
              WHERE deal_id IS NOT NULL AND state IN ('held', 'claimed')
              GROUP BY deal_id, customer_id) h USING (deal_id, customer_id)
 WHERE coalesce(c.taken, 0) <> coalesce(h.held, 0);
