-- Each query must return no rows, at any moment, whatever was killed.

-- something_to_buy: every item has at least one active option.
SELECT id FROM items i WHERE NOT EXISTS (SELECT FROM options o WHERE o.item_id = i.id AND o.active);

-- options_fit_names: an active option has one value for each option name of its item.
SELECT o.id
  FROM options o JOIN items i ON i.id = o.item_id
 WHERE o.active AND cardinality(o.option_values) <> cardinality(i.option_names);

-- options_distinct: no two active options of an item have the same values.
SELECT item_id, option_values FROM options WHERE active GROUP BY item_id, option_values HAVING count(*) > 1;

-- versions_published: the last fact of an item is about the version that stands.
SELECT i.id, i.version, f.version AS published
  FROM items i
  JOIN (SELECT key, max(aggregate_version) AS version FROM outbox GROUP BY key) f ON f.key = i.id::text
 WHERE i.version <> f.version;
