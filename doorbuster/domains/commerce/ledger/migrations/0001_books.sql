-- What providers did with our money, as payment told it, and the double-entry books of it.

CREATE TABLE movements (
    id             uuid PRIMARY KEY,
    provider       text NOT NULL,              -- our account at a provider
    provider_id    text NOT NULL,              -- the provider's id of the payment
    transaction_id text NOT NULL,              -- the provider's id of this movement, or empty
    reference      text NOT NULL,              -- what we called it there
    payment_id     uuid NOT NULL,
    order_id       uuid NOT NULL,
    amount_minor   bigint NOT NULL CHECK (amount_minor <> 0),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    reason         text NOT NULL,
    moved_at       timestamptz NOT NULL,
    row_id         uuid UNIQUE,                -- the settlement row that says the same
    waived         boolean NOT NULL DEFAULT false  -- a person has said that no row will come
) WITH (fillfactor = 85);
CREATE INDEX movements_provider_id ON movements (provider, provider_id);
CREATE INDEX movements_order ON movements (order_id);
CREATE INDEX movements_payment ON movements (payment_id);
CREATE INDEX movements_moved ON movements (provider, moved_at);
CREATE INDEX movements_open ON movements (provider, provider_id) WHERE row_id IS NULL;
CREATE INDEX movements_open_reference ON movements (provider, reference) WHERE row_id IS NULL;

CREATE TABLE doubled_orders (                  -- orders that were captured more than once, until that is settled
    order_id uuid PRIMARY KEY,
    provider text NOT NULL                     -- that captured last
);
CREATE INDEX doubled_orders_provider ON doubled_orders (provider);

CREATE TABLE journal (                         -- one transaction of the books; its entries sum to nothing
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('movement', 'fee', 'payout')),
    source_id   uuid NOT NULL,                 -- the movement or settlement row that it books
    happened_at timestamptz NOT NULL,
    booked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    txid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (source_id, kind)
);
CREATE TABLE entries (                         -- debits are positive, credits negative
    journal_id   uuid NOT NULL,                -- of journal; check_entries sees to that
    line         smallint NOT NULL CHECK (line BETWEEN 1 AND 100),
    account      text NOT NULL CHECK (length(account) BETWEEN 5 AND 200),
    currency     text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (journal_id, line),
    CHECK (account LIKE '%:' || currency AND currency ~ '^[A-Z]{3}$')
);
CREATE TABLE balances (                        -- the sums of all entries, kept by a trigger
    account      text PRIMARY KEY,
    currency     text NOT NULL,
    debit_minor  numeric(38) NOT NULL,
    credit_minor numeric(38) NOT NULL,
    entries      bigint NOT NULL
) WITH (fillfactor = 50);

-- What is booked stays as it was booked; a mistake is undone by another transaction.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the books are only added to: % of %', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER journal_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON journal EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON entries EXECUTE FUNCTION refuse_change();

-- Whatever program writes entries, the books balance after each of its statements, and a transaction of the books takes no
-- entries from another transaction of the database than its own. (An entry is never nothing, so what sums to nothing has
-- two entries or more.)
CREATE FUNCTION check_entries() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong uuid;
BEGIN
    SELECT a.journal_id INTO wrong FROM (SELECT DISTINCT journal_id FROM added) a
     WHERE (SELECT j.txid FROM journal j WHERE j.id = a.journal_id) IS DISTINCT FROM pg_current_xact_id() LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % of the books is closed', wrong USING ERRCODE = 'check_violation';
    END IF;
    -- One look by key for each: joined at once, the planner may read all entries there are.
    SELECT a.journal_id INTO wrong FROM (SELECT DISTINCT journal_id FROM added) a CROSS JOIN LATERAL (
           SELECT FROM entries e WHERE e.journal_id = a.journal_id
            GROUP BY e.currency HAVING sum(e.amount_minor) <> 0 LIMIT 1) uneven LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % of the books does not balance', wrong USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER entries_balance AFTER INSERT ON entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_entries();

-- A transaction of the books without entries is none.
CREATE FUNCTION check_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM entries WHERE journal_id = NEW.id) THEN
        RAISE EXCEPTION 'transaction % of the books has fewer than two entries', NEW.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER journal_has_entries AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_journal();

-- Whoever books waits here for whoever booked before: a few accounts are in every transaction, and two that took their
-- rows one after another in different orders would wait for each other for ever.
CREATE FUNCTION keep_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('the balances of the ledger', 0));
    INSERT INTO balances AS b (account, currency, debit_minor, credit_minor, entries)
    SELECT account, currency, coalesce(sum(amount_minor) FILTER (WHERE amount_minor > 0), 0),
           coalesce(-sum(amount_minor) FILTER (WHERE amount_minor < 0), 0), count(*)
      FROM added GROUP BY account, currency
        ON CONFLICT (account) DO UPDATE
       SET debit_minor = b.debit_minor + excluded.debit_minor, credit_minor = b.credit_minor + excluded.credit_minor,
           entries = b.entries + excluded.entries;
    RETURN NULL;
END $$;
CREATE TRIGGER balances_follow AFTER INSERT ON entries REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION keep_balances();
