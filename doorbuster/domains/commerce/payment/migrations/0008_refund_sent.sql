-- When a refund was last sent: how long "no such refund" may still mean "not yet" counts from there, not from its making.
-- From now on a refund is open from the moment before it is sent, so that a process that dies in between leaves it so.
ALTER TABLE refund ADD sent_at timestamptz;
UPDATE refund SET sent_at = clock_timestamp() WHERE is_open;
