-- List prices of options and scheduled sale prices, some of them for one deal only.

CREATE TABLE list_price (
    option_id        uuid PRIMARY KEY,
    item_id          uuid NOT NULL,
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    list_minor       bigint NOT NULL CHECK (list_minor BETWEEN 1 AND 1000000000000000),
    compare_at_minor bigint CHECK (compare_at_minor BETWEEN 1 AND 1000000000000000),
    version          bigint NOT NULL CHECK (version >= 1),
    updated_at       timestamptz NOT NULL
);
CREATE INDEX list_price_item ON list_price (item_id);

-- A sale's price is in the currency of the option's list price. Its end is exclusive.
CREATE TABLE sale (
    id          uuid PRIMARY KEY,
    option_id   uuid NOT NULL REFERENCES list_price,
    deal_id     uuid,
    price_minor bigint NOT NULL CHECK (price_minor BETWEEN 1 AND 1000000000000000),
    starts_at   timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL,
    CHECK (starts_at < ends_at),
    UNIQUE (deal_id, option_id)
);
CREATE INDEX sale_open ON sale (option_id, ends_at) WHERE deal_id IS NULL;
