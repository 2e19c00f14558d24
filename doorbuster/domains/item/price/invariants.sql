-- Each query must return no rows, at any moment, whatever was killed.

-- deal_has_one_window: all prices of a deal hold for the same time.
SELECT deal_id
  FROM sale
 WHERE deal_id IS NOT NULL
 GROUP BY deal_id
HAVING count(DISTINCT (starts_at, ends_at)) > 1;

-- item_has_one_currency: options of one item are sold in one currency.
SELECT item_id FROM list_price GROUP BY item_id HAVING count(DISTINCT currency) > 1;

-- versions_published: the last fact of an option is about the version that stands.
SELECT p.option_id, p.version, f.version AS published
  FROM list_price p
  JOIN (SELECT key, max(aggregate_version) AS version FROM outbox GROUP BY key) f ON f.key = p.option_id::text
 WHERE p.version <> f.version;
