-- Options, items, allotments, counters, reservations: everything that decides whether a unit can be sold.

CREATE TABLE option_stock (
    option_id uuid PRIMARY KEY,
    item_id   uuid NOT NULL,
    on_hand   bigint NOT NULL DEFAULT 0,   -- units in the shop that are not sold
    reserved  bigint NOT NULL DEFAULT 0,   -- of these, held for a buyer
    allotted  bigint NOT NULL DEFAULT 0,   -- of these, set aside for deals and not held
    sold      bigint NOT NULL DEFAULT 0,
    version   bigint NOT NULL DEFAULT 1,
    CHECK (reserved >= 0 AND allotted >= 0 AND sold >= 0),
    CHECK (on_hand >= reserved + allotted)
) WITH (fillfactor = 50);
CREATE INDEX option_stock_item ON option_stock (item_id);

CREATE TABLE item_stock (
    item_id  uuid PRIMARY KEY,
    on_hand  bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    allotted bigint NOT NULL DEFAULT 0,
    sold     bigint NOT NULL DEFAULT 0,
    version  bigint NOT NULL DEFAULT 1,
    CHECK (reserved >= 0 AND allotted >= 0 AND sold >= 0),
    CHECK (on_hand >= reserved + allotted)
) WITH (fillfactor = 50);

-- What merchants put in or took out; on_hand + sold must equal the sum of these.
CREATE TABLE stock_entry (
    id        uuid PRIMARY KEY,
    option_id uuid NOT NULL REFERENCES option_stock,
    delta     bigint NOT NULL,
    reason    text NOT NULL,
    by_whom   uuid,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stock_entry_option ON stock_entry (option_id);

CREATE TABLE allotment (
    deal_id            uuid NOT NULL,
    option_id          uuid NOT NULL REFERENCES option_stock,
    item_id            uuid NOT NULL,
    quantity           bigint NOT NULL,
    remaining          bigint NOT NULL,
    reserved           bigint NOT NULL DEFAULT 0,
    sold               bigint NOT NULL DEFAULT 0,
    returned           bigint NOT NULL DEFAULT 0,   -- given back to the option's free stock after the close
    per_customer_limit bigint,
    opens_at           timestamptz NOT NULL,
    closes_at          timestamptz NOT NULL,
    closed             boolean NOT NULL DEFAULT false,
    version            bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (deal_id, option_id),
    CHECK (quantity > 0 AND remaining >= 0 AND reserved >= 0 AND sold >= 0 AND returned >= 0),
    CHECK (remaining + reserved + sold + returned = quantity),
    CHECK (opens_at < closes_at),
    CHECK (per_customer_limit > 0)
) WITH (fillfactor = 50);
CREATE INDEX allotment_to_close ON allotment (closes_at) WHERE NOT closed;

CREATE TABLE counter (
    deal_id     uuid NOT NULL,
    customer_id uuid NOT NULL,
    taken       bigint NOT NULL CHECK (taken >= 0),
    PRIMARY KEY (deal_id, customer_id)
) WITH (fillfactor = 80);

-- One row per reservation, its lines as parallel arrays: they never change, and one row keeps a placement cheap.
CREATE TABLE reservation (
    id           uuid PRIMARY KEY,
    customer_id  uuid NOT NULL,
    deal_id      uuid,
    state        text NOT NULL CHECK (state IN ('held', 'claimed', 'released', 'expired')),
    option_ids   uuid[] NOT NULL,
    item_ids     uuid[] NOT NULL,
    quantities   bigint[] NOT NULL,
    request_hash text NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CHECK (cardinality(option_ids) BETWEEN 1 AND 50),
    CHECK (cardinality(option_ids) = cardinality(quantities) AND cardinality(option_ids) = cardinality(item_ids)),
    CHECK (0 < ALL (quantities))
) WITH (fillfactor = 80);
CREATE INDEX reservation_to_expire ON reservation (expires_at) WHERE state = 'held';
CREATE INDEX reservation_created ON reservation (created_at);

-- Lock everything a batch works on, in the one order (options, items, allotments, each by key), and then read what needs
-- no lock of its own, and the clock. One call instead of seven: while it holds these rows, a busy process would
-- spend most of its time on its way between statements. Each statement inside sees what was committed before it.
CREATE FUNCTION lock_books(
    p_options uuid[], p_deals uuid[], p_counter_deals uuid[], p_counter_customers uuid[],
    p_new uuid[], p_known uuid[], p_closing uuid[],
    OUT options option_stock[], OUT items item_stock[], OUT allotments allotment[], OUT counters counter[],
    OUT reservations reservation[], OUT moment timestamptz
) LANGUAGE plpgsql AS $$
DECLARE
    lines reservation[];
BEGIN
    IF cardinality(p_known) > 0 THEN
        -- A reservation's lines never change, so they may be read before anything is locked.
        lines := ARRAY(SELECT r FROM reservation r WHERE r.id = ANY(p_known));
        p_options := p_options || ARRAY(SELECT o FROM unnest(lines) AS r, unnest(r.option_ids) AS o);
        p_deals := p_deals || ARRAY(SELECT r.deal_id FROM unnest(lines) AS r WHERE r.deal_id IS NOT NULL);
        p_counter_deals := p_counter_deals || ARRAY(SELECT r.deal_id FROM unnest(lines) AS r WHERE r.deal_id IS NOT NULL);
        p_counter_customers :=
            p_counter_customers || ARRAY(SELECT r.customer_id FROM unnest(lines) AS r WHERE r.deal_id IS NOT NULL);
    END IF;
    IF cardinality(p_closing) > 0 THEN
        p_options := p_options || ARRAY(SELECT a.option_id FROM allotment a WHERE a.deal_id = ANY(p_closing));
    END IF;
    options := ARRAY(SELECT s FROM option_stock s WHERE s.option_id = ANY(p_options) ORDER BY s.option_id FOR UPDATE);
    items := ARRAY(SELECT s FROM item_stock s WHERE s.item_id = ANY(ARRAY(SELECT o.item_id FROM unnest(options) AS o))
                   ORDER BY s.item_id FOR UPDATE);
    -- Every allotment of a deal, not only the wanted ones: its first row serialises the deal's counters.
    allotments := ARRAY(SELECT a FROM allotment a WHERE a.deal_id = ANY(p_deals)
                        ORDER BY a.deal_id, a.option_id FOR UPDATE);
    counters := ARRAY(SELECT DISTINCT c FROM unnest(p_counter_deals, p_counter_customers) AS w(deal_id, customer_id)
                      JOIN counter c USING (deal_id, customer_id));
    reservations := ARRAY(SELECT r FROM reservation r WHERE r.id = ANY(p_new || p_known));
    moment := clock_timestamp();
END $$;
