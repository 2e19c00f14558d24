"""Bracket notation, parameters, the search language and pages: what is read, and that nothing else is."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorbuster.simulators.stripe.asks import CREATE, Create, Page
from doorbuster.simulators.stripe.currencies import refuse_amount
from doorbuster.simulators.stripe.errors import Invalid
from doorbuster.simulators.stripe.expand import refuse_expand
from doorbuster.simulators.stripe.form import read_form
from doorbuster.simulators.stripe.intent import Intent
from doorbuster.simulators.stripe.lists import cut
from doorbuster.simulators.stripe.params import read
from doorbuster.simulators.stripe.search import read_query

NAMES = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: not name.isdigit()
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
TREES = st.dictionaries(
    NAMES, VALUES | st.lists(VALUES, min_size=1, max_size=4) | st.dictionaries(NAMES, VALUES, min_size=1)
)


def flat(tree: dict[str, Any], numbered: bool) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, dict):
            pairs += [(f"{name}[{inner}]", item) for inner, item in value.items()]
        elif isinstance(value, list):
            pairs += [(f"{name}[{at if numbered else ''}]", item) for at, item in enumerate(value)]
        else:
            pairs.append((name, value))
    return pairs


@given(TREES, st.booleans())
def test_a_form_reads_back_what_was_written(tree: dict[str, Any], numbered: bool) -> None:
    assert read_form(urlencode(flat(tree, numbered))) == tree


@given(st.text(max_size=200))
def test_whatever_comes_is_a_tree_or_a_refusal(raw: str) -> None:
    try:
        tree = read_form(raw)
    except Invalid:
        return
    assert isinstance(tree, dict)
    try:
        read(tree, CREATE, Create, required=("amount", "currency"))
    except Invalid as error:
        assert error.info.status == 400


@pytest.mark.parametrize(
    "raw",
    [
        "a=1&a[b]=2",
        "a[b]=1&a=2",
        "a[b][c][d][e][f][g]=1",
        "[a]=1",
        "a[=1",
        "a]b[=1",
        "a[b]c=1",
        "%ff=1",
        "&".join(["x=1"] * 501),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(raw: str) -> None:
    with pytest.raises(Invalid):
        read_form(raw)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"colour": "red"}, "parameter_unknown", "colour"),
        (
            {"automatic_payment_methods": {"enabled": "true", "x": "1"}},
            "parameter_unknown",
            "automatic_payment_methods[x]",
        ),
        (
            {"automatic_payment_methods": {"allow_redirects": "never"}},
            "parameter_missing",
            "automatic_payment_methods[enabled]",
        ),
        ({"automatic_payment_methods": "true"}, None, "automatic_payment_methods"),
        ({"amount": "ten"}, "parameter_invalid_integer", "amount"),
        ({"amount": "10.5"}, "parameter_invalid_integer", "amount"),
        ({"amount": ""}, "parameter_invalid_empty", "amount"),
        ({"amount": ["1"]}, None, "amount"),
        ({"confirm": "yes"}, None, "confirm"),
        ({"capture_method": "never"}, None, "capture_method"),
        ({"metadata": "x"}, None, "metadata"),
        ({"metadata": {"k": {"deep": "1"}}}, None, "metadata[k]"),
        ({"metadata": {"k" * 41: "1"}}, None, f"metadata[{'k' * 41}]"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"metadata": {f"k{n}": "v" for n in range(51)}}, None, "metadata"),
        ({"expand": "latest_charge"}, None, "expand"),
        ({"statement_descriptor": "x" * 23}, None, "statement_descriptor"),
        ({"transfer_data": {"destination": "acct_1"}}, "not_simulated", "transfer_data"),
    ],
)
def test_a_wrong_parameter_says_which_and_why(change: dict[str, Any], code: str | None, param: str) -> None:
    with pytest.raises(Invalid) as error:
        read({"amount": "100", "currency": "usd", **change}, CREATE, Create, required=("amount", "currency"))
    assert (error.value.info.code, error.value.info.param, error.value.info.status) == (code, param, 400)


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (49, "usd", "amount_too_small"),
        (0, "krw", "amount_too_small"),
        (-5, "krw", "amount_too_small"),
        (100_000_000, "usd", "amount_too_large"),
        (1_234, "kwd", None),
        (1_000, "xyz", None),
        (1_000, "USD", None),
    ],
)
def test_an_amount_or_currency_that_cannot_be_charged_is_refused(amount: int, currency: str, code: str | None) -> None:
    with pytest.raises(Invalid) as error:
        refuse_amount(amount, currency)
    assert error.value.info.code == code


@pytest.mark.parametrize(("amount", "currency"), [(50, "usd"), (1, "krw"), (99_999_999, "jpy"), (1_230, "kwd")])
def test_the_least_and_the_most_can_be_charged(amount: int, currency: str) -> None:
    refuse_amount(amount, currency)


INTENT = Intent(
    "pi_1", "s", 1_500, "krw", "succeeded", 1_700_000_000_000, metadata={"order_id": "o'1", "shop": "Seoul 1"}
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("metadata['order_id']:'o\\'1'", True),
        ('metadata["order_id"]:"o\'1"', True),
        ("metadata['order_id']:'other'", False),
        ("-metadata['order_id']:'other'", True),
        ("metadata['none']:null", True),
        ("-metadata['order_id']:null", True),
        ("metadata['shop']~'seoul'", True),
        ("status:'succeeded' AND amount>=1500", True),
        ("status:'succeeded' and amount<1500", False),
        ("status:'canceled' OR currency:'krw'", True),
        ("created>1699999999 AND created<=1700000000", True),
        ("amount:1500", True),
        ("amount:1500 status:'succeeded'", True),
        ("amount:1500 status:'canceled'", False),
        ("customer:'cus_1'", False),
    ],
)
def test_a_query_finds_what_it_says(query: str, found: bool) -> None:
    assert read_query(query).matches(INTENT) is found


@pytest.mark.parametrize(
    "query",
    [
        "",
        "amount",
        "amount:",
        "amount~1",
        "amount:'x'",
        "colour:'red'",
        "metadata:'x'",
        "status:null",
        "status>'a'",
        "amount:1 AND",
        "amount:1 AND ",
        "amount:1 AND amount:2 OR amount:3",
        "x" * 2_001,
        " AND ".join(["amount:1"] * 11),
    ],
)
def test_a_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(Invalid):
        read_query(query)


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_a_refusal(text: str) -> None:
    try:
        query = read_query(text)
    except Invalid:
        return
    assert query.matches(INTENT) in (True, False)


@given(st.lists(st.integers(0, 20), max_size=30).map(sorted), st.integers(1, 7))
def test_pages_show_every_row_once_also_where_a_row_is_listed_twice(rows: list[int], limit: int) -> None:
    seen: list[int] = []
    page = Page(limit=limit)
    for _ in range(len(rows) + 1):
        found, more = cut(rows, page, str)
        seen += found
        if not more:
            break
        page = Page(limit=limit, starting_after=str(found[-1]))
    assert seen == rows
    if rows and len(set(rows)) == len(rows):
        found, more = cut(rows, Page(limit=limit, ending_before=str(rows[-1])), str)
        assert (list(found), more) == (rows[:-1][-limit:], len(rows) - 1 > limit)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("payment_intent", "latest_charge.balance_transaction"),
        ("list:payment_intent", "data.latest_charge.refunds"),
        ("refund", "charge.balance_transaction"),
        ("list:balance_transaction", "data.source.payment_intent"),
    ],
)
def test_what_can_be_expanded_is_let_in(kind: str, path: str) -> None:
    refuse_expand(kind, [path])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("payment_intent", "customer"),
        ("payment_intent", "data.latest_charge"),
        ("payment_intent", "latest_charge.amount"),
        ("payment_intent", "latest_charge.payment_intent.latest_charge.payment_intent.latest_charge"),
        ("payment_intent", ""),
        ("list:payment_intent", "latest_charge"),
        ("list:payment_intent", "data"),
        ("event", "data"),
    ],
)
def test_what_cannot_be_expanded_is_refused(kind: str, path: str) -> None:
    with pytest.raises(Invalid):
        refuse_expand(kind, [path])
