"""Every invariant is proven able to fail: a fault is planted inside a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from doorbuster import invariants
from doorbuster import map as shop_map
from doorbuster.engines.embedded import PostgresServer
from doorbuster.platform.settings import Settings

QUERIES = {(domain.name, name): sql for domain in shop_map.BUILT for name, _, sql in invariants.queries(domain)}

_OPTION = (
    "WITH i AS (INSERT INTO item_stock (item_id, on_hand, reserved, allotted, sold) VALUES"
    " ('00000000-0000-4000-8000-0000000000a1', {0}, {1}, {2}, {3}))"
    " INSERT INTO option_stock (option_id, item_id, on_hand, reserved, allotted, sold) VALUES"
    " ('00000000-0000-4000-8000-0000000000b1', '00000000-0000-4000-8000-0000000000a1', {0}, {1}, {2}, {3})"
)
_ENTRY = (
    "INSERT INTO stock_entry (id, option_id, delta, reason)"
    " VALUES (gen_random_uuid(), '00000000-0000-4000-8000-0000000000b1', {0}, 'planted')"
)
_ALLOTMENT = (
    "INSERT INTO allotment (deal_id, option_id, item_id, quantity, remaining, reserved, sold, per_customer_limit,"
    " opens_at, closes_at) VALUES ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-0000000000b1',"
    " '00000000-0000-4000-8000-0000000000a1', {0} + {1} + {2}, {0}, {1}, {2}, {3}, now(), now() + interval '1 h')"
)
_COUNTER = (
    "INSERT INTO counter VALUES ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-0000000000c1', {0})"
)
_ORDERS = (
    "INSERT INTO orders (id, customer_id, state, request_hash, currency, total_minor, lines, pays_at_once, pay_by,"
    " created_at, updated_at, step_deadline) VALUES ('00000000-0000-4000-8000-0000000000e1', gen_random_uuid(), '{0}',"
    " 'h', 'USD', {1}, '[{{\"unit_price_minor\": 5, \"quantity\": 2}}]', false, now(), now(), now(), {2})"
)
_TRANSITION = (
    "INSERT INTO transition (order_id, version, event, state, at)"
    " VALUES ('00000000-0000-4000-8000-0000000000e1', {0}, 'planted', '{1}', now())"
)
_PAYMENT = (
    "INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state) VALUES"
    " ('00000000-0000-4000-8000-0000000000f1', gen_random_uuid(), gen_random_uuid(), 700, 'USD', 'h', '{0}')"
)
_ATTEMPT = (
    "INSERT INTO attempt (payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state,"
    " next_inquiry_at) VALUES ('00000000-0000-4000-8000-0000000000f1', 1, 'p',"
    " '00000000-0000-4000-8000-0000000000f1.1', '00000000-0000-4000-8000-0000000000f1.1', {1}, 'USD', '{0}', now())"
)
_REFUND = (
    "INSERT INTO refund (id, payment_id, provider, provider_id, amount_minor, currency, reason, state) VALUES"
    " (gen_random_uuid(), '00000000-0000-4000-8000-0000000000f1', 'p', 'ch', {0}, 'USD', 'planted', '{1}')"
)
_ITEM = (
    "INSERT INTO items (id, handle, title, description, brand, category, tags, status, option_names, version,"
    " created_at, updated_at) VALUES ('00000000-0000-4000-8000-0000000000a2', 'planted-item', 't', '', '', '', '{{}}',"
    " 'draft', '{{Size}}', {0}, now(), now())"
)
_OPTION_OF_ITEM = (
    "INSERT INTO options (id, item_id, position, option_values, sku, active)"
    " VALUES (gen_random_uuid(), '00000000-0000-4000-8000-0000000000a2', {1}, '{0}', '', true)"
)
_FACT = (
    "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)"
    " VALUES (0, 'planted', '{0}', gen_random_uuid(), 'Planted', 1, {1}, '{{}}')"
)
_PRICE = (
    "INSERT INTO list_price (option_id, item_id, currency, list_minor, version, updated_at)"
    " VALUES ('{0}', '00000000-0000-4000-8000-0000000000a3', '{1}', 5, 1, now())"
)
_ONE, _TWO = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
_SALE = (
    "INSERT INTO sale (id, option_id, deal_id, price_minor, starts_at, ends_at) VALUES (gen_random_uuid(), '{0}',"
    " '00000000-0000-4000-8000-0000000000d2', 1, now(), now() + interval '{1}')"
)
_ACCOUNT = (
    "INSERT INTO accounts VALUES ('00000000-0000-4000-8000-0000000000a4', 'planted@example.com', 'n', '$argon2id$x',"
    " '{{{0}}}', now())"
)
_FAMILY = (
    "INSERT INTO families VALUES ('00000000-0000-4000-8000-0000000000f4', '00000000-0000-4000-8000-0000000000a4',"
    " now(), now())"
)
_TOKEN = (
    "INSERT INTO refresh_tokens VALUES (sha256('{0}'), '00000000-0000-4000-8000-0000000000f4', now(),"
    " now() + interval '{1}', NULL)"
)
_DEAL = (
    "INSERT INTO deals (id, merchant_id, title, request_hash, currency, opens_at, closes_at, lines, phase)"
    " VALUES (gen_random_uuid(), gen_random_uuid(), 't', 'h', 'USD', now(), now() + interval '1 h', '[]', 'preparing')"
)

_MOVED = (
    "INSERT INTO movements (id, provider, provider_id, transaction_id, reference, payment_id, order_id, amount_minor,"
    " currency, reason, moved_at, row_id) VALUES ('00000000-0000-4000-8000-0000000000b7', 'p', 'ch', '', 'r',"
    " gen_random_uuid(), gen_random_uuid(), 700, 'USD', 'paid', now(), NULL)"
)
_JOURNAL = (
    "INSERT INTO journal (id, kind, source_id, happened_at) VALUES"
    " ('00000000-0000-4000-8000-0000000000b8', 'movement', '00000000-0000-4000-8000-0000000000b7', now())"
)
_UNGUARDED = "ALTER TABLE entries DISABLE TRIGGER entries_balance"
_BOOKED = (
    "INSERT INTO entries VALUES ('00000000-0000-4000-8000-0000000000b8', 1, 'provider:p:USD', 'USD', {0}),"
    " ('00000000-0000-4000-8000-0000000000b8', 2, 'customer_orders:USD', 'USD', {1})"
)
_SETTLED = (
    "INSERT INTO settlement_rows (id, provider, provider_id, transaction_id, reference, amount_minor, fee_minor,"
    " currency, fee_currency, sold_on, paid_on, source, movement_id) VALUES ('00000000-0000-4000-8000-0000000000b9',"
    " 'p', 'ch', 't', 'r', {0}, 7, 'USD', 'USD', now(), now(), 'call', '00000000-0000-4000-8000-0000000000b7')"
)
_NAMED = "UPDATE movements SET row_id = '00000000-0000-4000-8000-0000000000b9' WHERE provider = 'p'"
_CASE = (
    "INSERT INTO cases (id, provider, day, class, movement_id, amount_minor, currency, ours, theirs, next_step) VALUES"
    " (gen_random_uuid(), 'p', now(), 'missing_theirs', '00000000-0000-4000-8000-0000000000b7', 0, 'USD', '[]', '[]',"
    " '')"
)

# What is planted for each invariant: statements that make a sound beginning and then break one promise.
PLANTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("stock", "option_balances"): (_OPTION.format(5, 1, 0, 0), _ENTRY.format(5)),
    ("stock", "option_sold"): (_OPTION.format(5, 0, 0, 1), _ENTRY.format(6)),
    ("stock", "option_entries"): (_OPTION.format(5, 0, 0, 0), _ENTRY.format(4)),
    ("stock", "item_is_sum"): (_OPTION.format(5, 0, 0, 0), "UPDATE item_stock SET on_hand = on_hand + 1"),
    ("stock", "allotted_is_sum"): (_OPTION.format(5, 0, 2, 0), _ALLOTMENT.format(1, 0, 0, 9)),
    ("stock", "allotment_reserved"): (_OPTION.format(5, 0, 1, 0), _ALLOTMENT.format(1, 1, 0, 9)),
    ("stock", "limits_kept"): (_OPTION.format(5, 0, 1, 0), _ALLOTMENT.format(1, 0, 0, 2), _COUNTER.format(3)),
    ("stock", "counter_is_sum"): (_OPTION.format(5, 0, 1, 0), _ALLOTMENT.format(1, 0, 0, 2), _COUNTER.format(1)),
    ("order", "state_is_last_transition"): (_ORDERS.format("paid", 10, "NULL"), _TRANSITION.format(1, "captured")),
    ("order", "total_is_sum"): (_ORDERS.format("cancelled", 11, "NULL"), _TRANSITION.format(1, "cancelled")),
    ("order", "moving_has_deadline"): (_ORDERS.format("captured", 10, "NULL"), _TRANSITION.format(1, "captured")),
    ("order", "paid_has_payment"): (_ORDERS.format("paid", 10, "NULL"), _TRANSITION.format(1, "paid")),
    ("payment", "succeeded_has_evidence"): (_PAYMENT.format("succeeded"), _ATTEMPT.format("declined", 700)),
    ("payment", "settled_has_no_live_attempt"): (_PAYMENT.format("declined"), _ATTEMPT.format("unknown", 700)),
    ("payment", "waits_in_a_session"): (_PAYMENT.format("waiting"), _ATTEMPT.format("window", 700)),
    ("payment", "amounts_agree"): (_PAYMENT.format("declined"), _ATTEMPT.format("declined", 701)),
    ("payment", "refund_cannot_exceed_capture"): (
        _PAYMENT.format("refunding"), _ATTEMPT.format("succeeded", 700), _REFUND.format(701, "sending"),
    ),
    ("payment", "refunded_has_refund"): (
        _PAYMENT.format("refunded"), _ATTEMPT.format("succeeded", 700), _REFUND.format(700, "sending"),
    ),
    ("payment", "refunds_are_counted"): (_PAYMENT.format("succeeded"), _REFUND.format(1, "sending")),
    ("payment", "refunding_means_all"): (_PAYMENT.format("refunded"), _ATTEMPT.format("succeeded", 700)),
    ("catalog", "something_to_buy"): (_ITEM.format(1),),
    ("catalog", "options_fit_names"): (_ITEM.format(1), _OPTION_OF_ITEM.format("{}", 0)),
    ("catalog", "options_distinct"): (
        "DROP INDEX options_distinct", _ITEM.format(1), _OPTION_OF_ITEM.format("{a}", 0),
        _OPTION_OF_ITEM.format("{a}", 1),
    ),
    ("catalog", "versions_published"): (
        _ITEM.format(2), _OPTION_OF_ITEM.format("{a}", 0), _FACT.format("00000000-0000-4000-8000-0000000000a2", 1),
    ),
    ("price", "deal_has_one_window"): (
        _PRICE.format(_ONE, "USD"), _PRICE.format(_TWO, "USD"), _SALE.format(_ONE, "1 h"), _SALE.format(_TWO, "2 h"),
    ),
    ("price", "item_has_one_currency"): (_PRICE.format(_ONE, "USD"), _PRICE.format(_TWO, "EUR")),
    ("price", "versions_published"): (_PRICE.format(_ONE, "USD"), _FACT.format(_ONE, 2)),
    ("account", "one_live_token"): (
        "DROP INDEX refresh_tokens_one_live", _ACCOUNT.format("shopper"), _FAMILY, _TOKEN.format("a", "-1 h"),
        _TOKEN.format("b", "-1 h"),
    ),
    ("account", "family_outlives_tokens"): (_ACCOUNT.format("shopper"), _FAMILY, _TOKEN.format("a", "1 h")),
    ("account", "everybody_is_a_shopper"): (_ACCOUNT.format("merchant"),),
    ("deal", "preparing_is_watched"): (_DEAL,),
    # The database itself refuses these, so its guard is taken off for the planting.
    ("ledger", "transactions_balance"): (_UNGUARDED, _JOURNAL, _BOOKED.format(700, -699)),
    ("ledger", "books_balance"): (_UNGUARDED, _JOURNAL, _BOOKED.format(700, -701)),
    ("ledger", "balance_is_sum"): (
        _JOURNAL, _BOOKED.format(700, -700), "UPDATE balances SET debit_minor = debit_minor + 1",
    ),
    ("ledger", "movement_is_booked"): (_MOVED, _JOURNAL, _BOOKED.format(701, -701)),
    ("ledger", "pairs_are_mutual"): (_MOVED, _SETTLED.format(701), _NAMED),
    ("ledger", "matched_is_booked"): (_MOVED, _SETTLED.format(700), _NAMED),
    ("ledger", "explained_is_closed"): (_MOVED, _SETTLED.format(700), _NAMED, _CASE),
}  # fmt: skip


@pytest.fixture(scope="module")
async def connection(postgres: PostgresServer, shop: Settings) -> AsyncIterator[asyncpg.Connection]:
    assert shop.databases
    connection = await asyncpg.connect(postgres.dsn(database="doorbuster"))
    yield connection
    await connection.close()


def test_a_fault_is_planted_for_every_invariant() -> None:
    assert set(PLANTED) == set(QUERIES)


@pytest.mark.parametrize("which", sorted(QUERIES), ids=".".join)
async def test_the_invariant_finds_its_fault(connection: asyncpg.Connection, which: tuple[str, str]) -> None:
    domain, _ = which
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f'SET LOCAL search_path = "{domain}"')
        before = await connection.fetch(QUERIES[which])
        for statement in PLANTED[which]:
            await connection.execute(statement)
        assert len(await connection.fetch(QUERIES[which])) > len(before)
        assert before == []
    finally:
        await transaction.rollback()


async def test_the_check_of_a_sound_shop_says_so(postgres: PostgresServer, shop: Settings) -> None:
    assert shop.databases
    checked, breaches = await invariants.check(postgres.dsn(database="doorbuster"))
    assert (checked, breaches) == (len(QUERIES), [])
