-- Money that is owed is never given up: a refund that the provider refuses is asked for again later, under a new key (the
-- old one would only replay the refusal), until it is given or a person settles it.
ALTER TABLE refund ADD refusals int NOT NULL DEFAULT 0;
UPDATE refund SET state = 'sending', refusals = 1 WHERE state = 'refused';
ALTER TABLE refund DROP CONSTRAINT refund_state_check, ADD CHECK (state IN ('sending', 'succeeded'));
