-- A refund that nobody can say anything of is told to a person too.
ALTER TABLE matter DROP CONSTRAINT matter_kind_check,
    ADD CHECK (kind IN ('unknown_outcome', 'refund_refused', 'unknown_refund', 'provider_differs'));

-- By what the account knows the instrument, while an outcome is unknown that the same key sent again may tell.
ALTER TABLE attempt ADD repeat_with json;
