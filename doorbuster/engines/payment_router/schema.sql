-- What all workers share of several providers: which rules say where payments go, and how each provider does.

CREATE TABLE routing_rules (               -- never changed: the newest version is in force, decisions name theirs
    version  bigint PRIMARY KEY,
    document jsonb NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by  text NOT NULL,
    note     text NOT NULL DEFAULT ''
);

CREATE TABLE provider_circuit (            -- where a provider stands for a kind of payment; `until` and `since` are epochs
    provider   text NOT NULL,
    method     text NOT NULL,
    merchant   text NOT NULL,
    state      text NOT NULL CHECK (state IN ('closed', 'open', 'probing', 'ramping')),
    since      float8 NOT NULL,
    until      float8 NOT NULL,
    step       int NOT NULL,
    opened     int NOT NULL,
    forced     text NOT NULL DEFAULT '' CHECK (forced IN ('', 'open', 'closed')),
    generation bigint NOT NULL,
    PRIMARY KEY (provider, method, merchant)
) WITH (fillfactor = 50);

CREATE TABLE provider_answers (            -- what all workers counted, by the second; only the last minutes are kept
    provider   text NOT NULL,
    method     text NOT NULL,
    merchant   text NOT NULL,
    generation bigint NOT NULL,
    second     bigint NOT NULL,
    good       bigint NOT NULL,
    failed     bigint NOT NULL,
    PRIMARY KEY (provider, method, merchant, generation, second)
) WITH (fillfactor = 50);
CREATE INDEX provider_answers_old ON provider_answers (second);

CREATE TABLE provider_probe (              -- permits to try a provider whose circuit was open; each ends by itself
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider   text NOT NULL,
    method     text NOT NULL,
    merchant   text NOT NULL,
    ends_at    timestamptz NOT NULL
);
CREATE INDEX provider_probe_key ON provider_probe (provider, method, merchant);

CREATE FUNCTION take_probe(p_provider text, p_method text, p_merchant text, p_most int, p_lease_s float8)
RETURNS bigint LANGUAGE plpgsql AS $$
-- One of so many permits, or null. Two at once wait for each other, so that never more are given.
DECLARE taken bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('take_probe'), hashtext(p_provider || ':' || p_method || ':' || p_merchant));
    DELETE FROM provider_probe WHERE provider = p_provider AND method = p_method AND merchant = p_merchant
       AND ends_at <= clock_timestamp();
    INSERT INTO provider_probe (provider, method, merchant, ends_at)
    SELECT p_provider, p_method, p_merchant, clock_timestamp() + make_interval(secs => p_lease_s)
     WHERE (SELECT count(*) FROM provider_probe
             WHERE provider = p_provider AND method = p_method AND merchant = p_merchant) < p_most
    RETURNING id INTO taken;
    RETURN taken;
END $$;
