-- What providers say of our money, day by day, and the cases where it is not what we say.

CREATE TABLE settlement_rows (
    id             uuid PRIMARY KEY,           -- derived from account, the provider's id of the movement, and its sign
    provider       text NOT NULL,              -- our account at a provider
    provider_id    text NOT NULL,
    transaction_id text NOT NULL,
    reference      text NOT NULL,
    amount_minor   bigint NOT NULL,
    fee_minor      bigint NOT NULL,
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    fee_currency   text NOT NULL CHECK (fee_currency ~ '^[A-Z]{3}$'),
    sold_on        date NOT NULL,              -- a day of the provider
    paid_on        date,
    source         text NOT NULL CHECK (source IN ('call', 'file')),
    seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    earlier        jsonb NOT NULL DEFAULT '[]', -- what the provider said of it before
    movement_id    uuid UNIQUE REFERENCES movements,
    waived         boolean NOT NULL DEFAULT false -- a person has settled it
) WITH (fillfactor = 85);
CREATE INDEX settlement_rows_day ON settlement_rows (provider, sold_on);
CREATE INDEX settlement_rows_open ON settlement_rows (provider, provider_id) WHERE movement_id IS NULL;
CREATE INDEX settlement_rows_open_reference ON settlement_rows (provider, reference)
    WHERE movement_id IS NULL AND reference <> '';
ALTER TABLE movements ADD FOREIGN KEY (row_id) REFERENCES settlement_rows;

CREATE TABLE days (                            -- days of a provider that were read to their end
    provider   text NOT NULL,
    day        date NOT NULL,
    rows       bigint NOT NULL,
    source     text NOT NULL CHECK (source IN ('call', 'file')),
    first_read timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_read  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (provider, day)
);

CREATE TABLE cases (
    id           uuid PRIMARY KEY,             -- derived from what it is about: found again is the same case
    provider     text NOT NULL,
    day          date NOT NULL,
    class        text NOT NULL
                 CHECK (class IN ('missing_ours', 'missing_theirs', 'amount', 'currency', 'fee', 'duplicate_capture')),
    row_id       uuid REFERENCES settlement_rows,
    movement_id  uuid REFERENCES movements,
    order_id     uuid,
    amount_minor bigint NOT NULL,              -- theirs less ours
    currency     text NOT NULL,
    ours         jsonb NOT NULL,
    theirs       jsonb NOT NULL,
    next_step    text NOT NULL,
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    opened_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at    timestamptz,
    closed_by    text NOT NULL DEFAULT '',
    note         text NOT NULL DEFAULT '',
    CHECK ((state = 'closed') = (closed_at IS NOT NULL AND closed_by <> '' AND note <> '')),
    CHECK (row_id IS NOT NULL OR movement_id IS NOT NULL OR order_id IS NOT NULL)
);
CREATE INDEX cases_open ON cases (provider, class) WHERE state = 'open';
CREATE INDEX cases_day ON cases (provider, day);
CREATE INDEX cases_page ON cases (state, opened_at, id);
CREATE INDEX cases_row ON cases (row_id);
CREATE INDEX cases_movement ON cases (movement_id);
