"""The lists of the API: newest first, in pages told by the id of their first or last object, with `has_more`.

Sources: docs.stripe.com/api/pagination, …/pagination/search, …/balance_transactions/list, …/events (30 days).
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from doorbuster.simulators.host.settlement import Columns, seeded
from doorbuster.simulators.host.wire import Answer
from doorbuster.simulators.stripe.asks import LISTS, RETRIEVE, SEARCH, Page, Retrieve, Search
from doorbuster.simulators.stripe.balance import flat, transaction_view
from doorbuster.simulators.stripe.errors import Invalid, no_such
from doorbuster.simulators.stripe.events import event_view
from doorbuster.simulators.stripe.expand import expanded, refuse_expand
from doorbuster.simulators.stripe.intent import Charge, Intent, Refund
from doorbuster.simulators.stripe.params import read
from doorbuster.simulators.stripe.provider import Call, Provider
from doorbuster.simulators.stripe.search import read_query
from doorbuster.simulators.stripe.views import charge_view, intent_view, list_view, refund_view

EVENTS_KEPT_MS = 30 * 86_400_000
COLUMNS = Columns(key="id", amount="amount", fee="fee", pay_out="net")

View = dict[str, Any]
Row = TypeVar("Row")


def list_intents(provider: Provider, call: Call) -> Answer:
    page = _page(call, "payment_intents", "payment_intent")
    rows = [
        intent
        for intent in _intents(provider, call)
        if _in_span(intent.created_ms, page) and page.customer in (None, intent.customer)
    ]
    found, more = cut(rows[::-1], page, lambda intent: intent.id)
    views = [_expanded(provider, call, page, intent_view(i, call.origin), i) for i in found]
    return _json(list_view("/v1/payment_intents", views, more))


def list_charges(provider: Provider, call: Call) -> Answer:
    page = _page(call, "charges", "charge")
    rows = [
        (intent, charge)
        for intent in _of_page(provider, call, page)
        for charge in intent.charges
        if _in_span(charge.at_ms, page) and page.customer in (None, intent.customer)
    ]
    rows.sort(key=lambda row: row[1].at_ms)
    found, more = cut(rows[::-1], page, lambda row: row[1].id)
    views = [_expanded(provider, call, page, charge_view(i, c), i) for i, c in found]
    return _json(list_view("/v1/charges", views, more))


def list_refunds(provider: Provider, call: Call) -> Answer:
    page = _page(call, "refunds", "refund")
    rows = [
        (intent, charge, refund)
        for intent in _of_page(provider, call, page)
        for charge in intent.charges
        for refund in charge.refunds
        if _in_span(refund.at_ms, page) and page.charge in (None, charge.id)
    ]
    rows.sort(key=lambda row: row[2].at_ms)
    found, more = cut(rows[::-1], page, _refund_id)
    views = [_expanded(provider, call, page, refund_view(i, c, r), i) for i, c, r in found]
    return _json(list_view("/v1/refunds", views, more))


def list_events(provider: Provider, call: Call) -> Answer:
    page = _page(call, "events", "event")
    if page.type is not None and page.types is not None:
        raise Invalid("Either type or types, not both.", param="types")
    kinds = page.types if page.types is not None else [page.type or "*"]
    since_ms = provider.now_ms() - EVENTS_KEPT_MS
    rows = [
        event
        for event in provider.books.events.values()
        if event.at_ms >= since_ms
        and _in_span(event.at_ms, page)
        and event.fact.intent.account == call.account
        and any(fnmatchcase(event.fact.type, kind) for kind in kinds)
    ]
    found, more = cut(rows[::-1], page, lambda event: event.id)
    return _json(list_view("/v1/events", [event_view(event) for event in found], more))


def list_transactions(provider: Provider, call: Call) -> Answer:
    page = _page(call, "balance_transactions", "balance_transaction")
    rows = [row for row in balance_rows(provider, call.account) if _is_wanted(row, page)]
    found, more = cut(rows[::-1], page, lambda row: str(row["id"]))
    now_ms = provider.now_ms()
    views = []
    for row in found:
        intent = provider.books.intents[row["transaction"].intent]
        views.append(_expanded(provider, call, page, transaction_view(row, now_ms), intent))
    return _json(list_view("/v1/balance_transactions", views, more))


def retrieve_transaction(provider: Provider, call: Call) -> Answer:
    expand = _retrieve(call, "balance_transaction")
    row = next((row for row in balance_rows(provider, call.account) if row["id"] == call.target), None)
    if row is None:
        raise no_such("balance_transaction", call.target[:100], "id", 404)
    now_ms = provider.now_ms()
    intent = provider.books.intents[row["transaction"].intent]
    return _json(expanded(transaction_view(row, now_ms), expand, intent, call.origin, now_ms))


def retrieve_charge(provider: Provider, call: Call) -> Answer:
    expand = _retrieve(call, "charge")
    intent = provider.books.intents.get(provider.books.intent_of_charge.get(call.target, ""))
    if intent is None or intent.account != call.account:
        raise no_such("charge", call.target[:100], "charge", 404)
    charge = next(charge for charge in intent.charges if charge.id == call.target)
    return _json(expanded(charge_view(intent, charge), expand, intent, call.origin, provider.now_ms()))


def retrieve_event(provider: Provider, call: Call) -> Answer:
    _retrieve(call, "event")
    event = provider.books.events.get(call.target)
    now_ms = provider.now_ms()
    if event is None or event.at_ms < now_ms - EVENTS_KEPT_MS or event.fact.intent.account != call.account:
        raise no_such("event", call.target[:100], "id", 404)
    return _json(event_view(event))


def search_intents(provider: Provider, call: Call) -> Answer:
    """What was created within the search delay is not found, whatever else is true of it."""
    provider.count_search()
    ask = read(call.tree, SEARCH, Search, required=("query",))
    refuse_expand("list:payment_intent", ask.expand)
    query = read_query(ask.query)
    until_ms = provider.now_ms() - provider.rules.search_delay_ms
    intents = _intents(provider, call)
    if query.pair is not None:
        ids = dict.fromkeys(provider.books.by_metadata.get(query.pair, ()))
        intents = [i for id_ in ids if (i := provider.books.intents[id_]).account == call.account]
    rows = [i for i in intents if i.created_ms <= until_ms and query.matches(i)][::-1]
    skip = _skip(ask.page)
    found = rows[skip : skip + ask.limit]
    more = skip + ask.limit < len(rows)
    page = Page(expand=ask.expand)
    views = [_expanded(provider, call, page, intent_view(i, call.origin), i) for i in found]
    token = base64.urlsafe_b64encode(str(skip + ask.limit).encode()).decode() if more else None
    shown = {"object": "search_result", "data": views, "has_more": more, "next_page": token}
    return _json({**shown, "url": "/v1/payment_intents/search"})


EVERYBODY = "*"


def balance_rows(provider: Provider, account: str | None) -> list[View]:
    """One row for each movement of money there ever was, oldest first, and the wrongs that were asked for.

    `account` is a connected account, None the platform's own, EVERYBODY all of them.
    """
    version = (provider.books.entries, account, provider.rules.seeds)
    if provider.rows is None or provider.rows[0] != version:
        # Page after page asks for the same rows; between two entries of the ledger they are the same.
        intents = provider.books.intents
        rows = [
            flat(transaction)
            for transaction in provider.books.transactions.values()
            if account == EVERYBODY or intents[transaction.intent].account == account
        ]
        provider.rows = (version, seeded(rows, provider.rules.seeds, COLUMNS))
    return provider.rows[1]


def cut(rows: Sequence[Row], page: Page, id_of: Callable[[Row], str]) -> tuple[Sequence[Row], bool]:
    """One page of rows that are newest first, and whether there are more beyond it.

    A row listed twice (a seeded wrong) is never parted from its copy, or a reader would not get past it.
    """
    if page.starting_after is not None and page.ending_before is not None:
        raise Invalid("Either starting_after or ending_before, not both.", param="ending_before")
    ids = [id_of(row) for row in rows]
    if page.ending_before is not None:
        end = _place(ids, page.ending_before, "ending_before")
        first = max(0, end - page.limit)
        return rows[first:end], first > 0
    first = 0
    if page.starting_after is not None:
        first = _place(ids, page.starting_after, "starting_after") + 1
        while first < len(rows) and ids[first] == page.starting_after:
            first += 1
    end = min(first + page.limit, len(rows))
    while first < end < len(rows) and ids[end] == ids[end - 1]:
        end += 1
    return rows[first:end], end < len(rows)


def _place(ids: list[str], id_: str, param: str) -> int:
    try:
        return ids.index(id_)
    except ValueError as error:
        raise Invalid(f"{id_[:100]!r} is not in the list.", "resource_missing", param) from error


def _skip(token: str | None) -> int:
    if token is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise Invalid("The page cannot be read.", param="page") from error
    if not (text.isdigit() and len(text) <= 9):
        raise Invalid("The page cannot be read.", param="page")
    return int(text)


def _page(call: Call, name: str, kind: str) -> Page:
    page = read(call.tree, LISTS[name], Page)
    refuse_expand(f"list:{kind}", page.expand)
    return page


def _retrieve(call: Call, kind: str) -> list[str]:
    expand = read(call.tree, RETRIEVE, Retrieve).expand
    refuse_expand(kind, expand)
    return expand


def _expanded(provider: Provider, call: Call, page: Page, view: View, intent: Intent) -> View:
    paths = [path.removeprefix("data.") for path in page.expand]
    return expanded(view, paths, intent, call.origin, provider.now_ms())


def _intents(provider: Provider, call: Call) -> list[Intent]:
    return [intent for intent in provider.books.intents.values() if intent.account == call.account]


def _of_page(provider: Provider, call: Call, page: Page) -> list[Intent]:
    """The intents to look through: one where the page names it, else all."""
    id_ = page.payment_intent
    if id_ is None and page.charge is not None:
        id_ = provider.books.intent_of_charge.get(page.charge, "")
    if id_ is None:
        return _intents(provider, call)
    intent = provider.books.intents.get(id_)
    if intent is None or intent.account != call.account:
        name = "payment_intent" if page.payment_intent is not None else "charge"
        raise no_such(name, str(page.payment_intent or page.charge)[:100], name, 404)
    return [intent]


def _in_span(at_ms: int, page: Page) -> bool:
    at, bounds = at_ms // 1000, page.created
    return (
        bounds.get("gt", -1) < at
        and bounds.get("gte", 0) <= at
        and at < bounds.get("lt", 2**60)
        and at <= bounds.get("lte", 2**60)
    )


def _is_wanted(row: View, page: Page) -> bool:
    transaction = row["transaction"]
    return (
        _in_span(transaction.at_ms, page)
        and page.currency in (None, transaction.currency)
        and page.source in (None, transaction.source)
        and page.type in (None, transaction.type)
    )


def _refund_id(row: tuple[Intent, Charge, Refund]) -> str:
    return row[2].id


def _json(value: Any) -> Answer:
    return Answer(200, msgspec.json.encode(value), "read")
