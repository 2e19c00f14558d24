-- Each query must return no rows, at any moment, whatever was killed.

-- transactions_balance: each transaction of the books has two entries or more, and sums to nothing in each currency.
SELECT j.id FROM journal j
 WHERE 2 > (SELECT count(*) FROM entries e WHERE e.journal_id = j.id)
    OR EXISTS (SELECT FROM entries e WHERE e.journal_id = j.id GROUP BY e.currency HAVING sum(e.amount_minor) <> 0);

-- books_balance: all accounts of a currency sum to nothing.
SELECT currency FROM balances GROUP BY currency HAVING sum(debit_minor) <> sum(credit_minor);

-- balance_is_sum: an account's balance is the sum of its entries.
SELECT account FROM balances b
  FULL JOIN (SELECT account, coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0) AS debit_minor,
                    coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0) AS credit_minor, count(*) AS entries
               FROM entries GROUP BY account) e USING (account)
 WHERE (b.debit_minor, b.credit_minor, b.entries) IS DISTINCT FROM (e.debit_minor, e.credit_minor, e.entries);

-- movement_is_booked: what a provider took or gave back stands in the books, with its amount.
SELECT m.id FROM movements m
 WHERE NOT EXISTS (SELECT FROM journal j JOIN entries e ON e.journal_id = j.id
                    WHERE j.source_id = m.id AND j.kind = 'movement'
                      AND e.account = 'provider:' || m.provider || ':' || m.currency AND e.amount_minor = m.amount_minor);

-- pairs_are_mutual: a row and a movement that are matched name each other, and say the same.
SELECT r.id FROM settlement_rows r LEFT JOIN movements m ON m.id = r.movement_id
 WHERE r.movement_id IS NOT NULL
   AND (m.row_id IS DISTINCT FROM r.id
        OR (r.provider, r.amount_minor, r.currency) IS DISTINCT FROM (m.provider, m.amount_minor, m.currency))
 UNION ALL
SELECT m.id FROM movements m LEFT JOIN settlement_rows r ON r.id = m.row_id
 WHERE m.row_id IS NOT NULL AND r.movement_id IS DISTINCT FROM m.id;

-- matched_is_booked: the fee of a matched row stands in the books, and its payout once it has a day.
SELECT r.id FROM settlement_rows r
 WHERE r.movement_id IS NOT NULL
   AND ((r.fee_minor <> 0 AND NOT EXISTS (SELECT FROM journal j WHERE j.source_id = r.id AND j.kind = 'fee'))
        OR (r.paid_on IS NOT NULL AND r.amount_minor <> CASE WHEN r.fee_currency = r.currency THEN r.fee_minor ELSE 0 END
            AND NOT EXISTS (SELECT FROM journal j WHERE j.source_id = r.id AND j.kind = 'payout')));

-- explained_is_closed: what has its partner is not asked for any more.
SELECT c.id FROM cases c
  LEFT JOIN movements m ON m.id = c.movement_id
  LEFT JOIN settlement_rows r ON r.id = c.row_id
 WHERE c.state = 'open'
   AND ((c.class = 'missing_theirs' AND m.row_id IS NOT NULL) OR (c.class = 'missing_ours' AND r.movement_id IS NOT NULL));
