"""Every domain looks the same inside, and each rule about it catches what is planted against it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from doorbuster import map
from doorbuster.background import SUBSCRIPTIONS
from doorbuster.map import BY_ID, DOMAINS, Domain
from tests.architecture.plant import REAL, plant, told
from tests.architecture.rules import domains
from tests.architecture.rules.source import ROOT

STOCK = "doorbuster/domains/item/stock/"
_ONE = (Domain("item", "stock", "units", built=True, publishes=("StockChanged",)),)
_SUBSCRIBED = {(s.consumer, f"{s.source}.{fact}") for s in SUBSCRIPTIONS for fact in s.types}


def test_domain_folders_hold_only_the_standard_files() -> None:
    assert told(domains.files(ROOT, DOMAINS, domains.EXTRA)) == []


def test_facts_are_heard_along_the_arrows() -> None:
    assert told(domains.hears(DOMAINS)) == []


def test_what_is_heard_on_the_map_is_what_is_subscribed() -> None:
    assert told(domains.subscriptions(DOMAINS, _SUBSCRIBED)) == []


def test_every_fact_of_the_map_is_made_and_no_other() -> None:
    assert told(domains.publishes(REAL, DOMAINS)) == []


def test_rules_neither_wait_nor_ask_nor_read_a_clock() -> None:
    assert told(domains.pure_rules(REAL)) == []


def test_sql_of_domains_is_in_their_store() -> None:
    assert told(domains.sql_in_store(REAL)) == []


def test_rows_are_locked_only_where_the_name_says_so() -> None:
    assert told(domains.locks_are_named(REAL, domains.FOR_UPDATE_ELSEWHERE)) == []


@pytest.mark.parametrize(
    ("path", "breach"),
    [
        (STOCK + "queries.py", "none of a domain's files"),
        (STOCK + "api/__init__.py", "none of a domain's files"),
        (STOCK + "migrations/stock.sql", "a migration is called"),
        ("doorbuster/domains/item/brand/__init__.py", "not a built domain"),
        ("doorbuster/domains/item/prices.py", "belongs to no domain"),
        ("doorbuster/domains/prices.py", "belongs to no domain"),
    ],
)
def test_a_file_that_is_none_of_a_domains_is_caught(tmp_path: Path, path: str, breach: str) -> None:
    plant(tmp_path, {STOCK + "__init__.py": "", STOCK + "migrations/0001_stock.sql": "", path: ""})
    found = told(domains.files(tmp_path, _ONE, {}))
    assert len(found) == 1
    assert breach in found[0]


def test_a_planned_domain_with_a_folder_and_a_built_one_without_are_caught(tmp_path: Path) -> None:
    plant(tmp_path, {"doorbuster/domains/user/point/__init__.py": ""})
    found = told(domains.files(tmp_path, (*_ONE, Domain("user", "point", "points")), {}))
    assert ["not a built domain" in found[0], "has no folder" in found[1]] == [True, True]


def test_an_extra_file_that_has_gone_is_caught(tmp_path: Path) -> None:
    plant(tmp_path, {STOCK + "__init__.py": "", STOCK + "books.py": ""})
    listed = {"item/stock/books.py": "why", "item/stock/gone.py": "why"}
    assert told(domains.files(tmp_path, _ONE, listed)) == [
        "doorbuster/domains/item/stock/gone.py:1: is listed as an extra file and has gone: take it off"
    ]


@pytest.mark.parametrize(
    ("hearer", "heard", "breach"),
    [
        ("item.stock", "commerce.order.OrderPaid", "against the arrows"),
        ("item.catalog", "item.price.PriceChanged", "against the arrows"),
        ("commerce.order", "item.stock.StockBurnt", "does not publish"),
        ("commerce.order", "item.shelf.ShelfMoved", "there is no domain"),
        ("commerce.order", "OrderPaid", "there is no domain"),
    ],
)
def test_hearing_what_cannot_be_heard_is_caught(hearer: str, heard: str, breach: str) -> None:
    changed = tuple(msgspec.structs.replace(d, hears=(heard,)) if d.id == hearer else d for d in DOMAINS)
    found = told(domains.hears(changed))
    assert len(found) == 1
    assert breach in found[0]


def test_siblings_do_not_hear_each_other() -> None:
    rating = msgspec.structs.replace(BY_ID["review.rating"], publishes=("Rated",))
    query = msgspec.structs.replace(BY_ID["search.query"], hears=("review.rating.Rated",))
    assert "against the arrows" in told(domains.hears((rating, query)))[0]
    assert not map.may_see("search.query", "review.rating")


def test_a_subscription_off_the_map_and_a_missing_one_are_caught() -> None:
    made = (_SUBSCRIBED - {("item.price", "item.catalog.ItemChanged")}) | {
        ("commerce.order", "item.stock.StockChanged")
    }
    found = told(domains.subscriptions(DOMAINS, made))
    assert ["off the map" in found[0], "does not subscribe" in found[1], len(found)] == [True, True, 2]


_MADE = "from x import FactType\nA = FactType('item.stock', 'StockChanged', 1, X)\n"


@pytest.mark.parametrize(
    ("events", "service", "breach"),
    [
        ("", "", "never declares it"),
        (_MADE.replace("StockChanged", "StockMoved"), "", "which is not on the map"),
        ("A = event_log.FactType(topic='t', name='StockMoved')\n", "", "which is not on the map"),
        (_MADE, _MADE, "outside events.py"),
        ("def f(kind): return FactType('t', kind, 1, X)\n", "", "not spelt out"),
        (_MADE, "def f(): return Fact('t', 'k', 'StockChanged', 1, 1, b'')\n", "not spelt out"),
        ("def f(): 'StockChanged'\n", "", "never declares it"),
    ],
)
def test_a_fact_that_is_not_declared_or_not_on_the_map_is_caught(
    tmp_path: Path, events: str, service: str, breach: str
) -> None:
    found = plant(tmp_path, {STOCK + "events.py": events, STOCK + "service.py": service})
    assert [line for line in told(domains.publishes(found, _ONE)) if breach in line]


def test_a_fact_that_is_declared_is_no_breach(tmp_path: Path) -> None:
    found = plant(tmp_path, {STOCK + "events.py": _MADE, STOCK + "service.py": "A.of('k', 1, X())\n"})
    assert told(domains.publishes(found, _ONE)) == []


@pytest.mark.parametrize(
    "text",
    [
        "async def decide(): ...\n",
        "X = 'SELECT 1 FROM options'\n",
        "X = 'UPDATE options SET on_hand = 1'\n",
        "X = 'id = 1 FOR UPDATE'\n",
        "def f(): return datetime.now(UTC)\n",
        "def f(): return datetime.datetime.utcnow()\n",
        "def f(): return time()\n",
        "def f(): return utc_now()\n",
        "from doorbuster.platform import clock\n",
        "import time\n",
        "from doorbuster.platform.db import Conn\n",
    ],
)
def test_rules_that_wait_or_ask_or_read_a_clock_are_caught(tmp_path: Path, text: str) -> None:
    tree = {"doorbuster/platform/clock.py": "", "doorbuster/platform/db.py": "", STOCK + "rules.py": text}
    assert told(domains.pure_rules(plant(tmp_path, tree)))


def test_pure_rules_may_talk_of_time_and_use_its_words(tmp_path: Path) -> None:
    text = '"""SELECT nothing here."""\nX = "Select a size"\ndef over(now, end): return now >= end.replace(hour=0)\n'
    assert told(domains.pure_rules(plant(tmp_path, {STOCK + "rules.py": text}))) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (STOCK + "service.py", "X = 'SELECT id FROM options'\n"),
        (STOCK + "service.py", "X = f'DELETE FROM {table}'\n"),
        (STOCK + "routes.py", "X = '''\n  INSERT INTO options VALUES (1)'''\n"),
        (STOCK + "consumers.py", "X = 'WITH gone AS (DELETE FROM options RETURNING 1) SELECT 1'\n"),
        ("doorbuster/surfaces/cli/a.py", "X = 'UPDATE options SET on_hand = 1'\n"),
        ("doorbuster/app.py", "X = 'SELECT 1 '\n"),
    ],
)
def test_sql_outside_the_store_is_caught(tmp_path: Path, path: str, text: str) -> None:
    assert len(told(domains.sql_in_store(plant(tmp_path, {path: text})))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "async def read_options(): return 'SELECT id FROM options FOR UPDATE'\n",
        "def f(): return f'SELECT id FROM {t} ORDER BY id FOR NO KEY UPDATE SKIP LOCKED'\n",
        "X = 'SELECT 1 FROM options FOR SHARE'\ndef read(): return X\n",
        "X = 'SELECT 1 FROM options FOR UPDATE'\n",
        "def lock_all():\n    def inner(): return 'SELECT 1 FROM options FOR UPDATE'\n",
    ],
)
def test_a_lock_in_a_function_with_another_name_is_caught(tmp_path: Path, text: str) -> None:
    assert len(told(domains.locks_are_named(plant(tmp_path, {STOCK + "store.py": text}), {}))) == 1


def test_a_lock_in_a_function_that_says_so_is_no_breach_and_a_stale_exception_is(tmp_path: Path) -> None:
    text = "X = 'SELECT 1 FROM options FOR UPDATE'\ndef lock_options(): return X\ndef take_over(): return X\n"
    found = plant(tmp_path, {STOCK + "store.py": text})
    assert told(domains.locks_are_named(found, {})) == []
    assert "take it off" in told(domains.locks_are_named(found, {STOCK + "store.py::read": "why"}))[0]
