"""A provider's settlement rows, fetched page by page over the line to an account, or read from its file."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import msgspec

from doorbuster.engines.payment_router import lines
from doorbuster.engines.payment_router.outcome import Result
from doorbuster.engines.payment_router.provider import SettlementPage, SettlementRow, Unreadable
from doorbuster.engines.payment_router.providers import SETTLEMENT_FILES, SETTLEMENTS
from doorbuster.platform import clock, money
from doorbuster.platform.errors import Unavailable

MAX_PAGES = 10_000
MAX_PAGE_NAME = 200
MAX_PAGE_BYTES = 16 * 1_048_576
"""A page may have a thousand rows of a kilobyte and more."""


class SettlementsUnreadable(Exception):
    """The provider's answer or file is not what it documents; no row of it may be used."""


def settling_accounts() -> list[str]:
    """Our accounts at providers that can be asked for their rows."""
    return [account for account in lines.accounts() if lines.kind_of(account) in SETTLEMENTS]


def takes_settlement_files(account: str) -> bool:
    """Whether a file of this account's provider can be read."""
    return lines.kind_of(account) in SETTLEMENT_FILES


async def settlement_rows(account: str, day: dt.date, page: str = "") -> AsyncIterator[SettlementPage]:
    """The rows of one of the provider's days, page by page, from `page` on (empty: the first).

    Each row names our account as its provider. Raises Unavailable when there is no answer, SettlementsUnreadable when
    there is one that cannot be used; what came before is good, but it is not the whole day. KeyError for a provider
    that has no such rows.
    """
    provider = SETTLEMENTS[lines.kind_of(account)]
    seen: set[str] = set()
    while page not in seen:
        if len(seen) >= MAX_PAGES:
            raise SettlementsUnreadable(f"more than {MAX_PAGES} pages")
        seen.add(page)
        call = provider.settlement_call(day, page, lines.login(account), clock.utc_now())
        answer = await lines.send(account, "settlement", call, most=MAX_PAGE_BYTES)
        if isinstance(answer, Result):
            raise Unavailable(f"The settlement rows of {account} did not come ({answer.code})")
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"The settlement rows of {account} did not come (status {answer.status})")
        found = provider.read_settlement(day, page, answer)
        if isinstance(found, Unreadable):
            raise SettlementsUnreadable(found.why)
        if len(found.next_page) > MAX_PAGE_NAME:
            raise SettlementsUnreadable("the next page has no usable name")
        yield SettlementPage(_of(account, found.rows), found.next_page)
        if not found.next_page:
            return
        page = found.next_page
    raise SettlementsUnreadable("a page leads back to an earlier one")


def read_settlement_file(account: str, file: bytes) -> tuple[SettlementRow, ...]:
    """All rows of a file. Raises SettlementsUnreadable; KeyError for a provider that has no such files."""
    found = SETTLEMENT_FILES[lines.kind_of(account)].read_settlement_csv(file)
    if isinstance(found, Unreadable):
        raise SettlementsUnreadable(found.why)
    return _of(account, found.rows)


def _of(account: str, rows: tuple[SettlementRow, ...]) -> tuple[SettlementRow, ...]:
    """The rows as rows of our account. Raises SettlementsUnreadable for an amount that no sale of ours can have."""
    if any(max(abs(row.amount_minor), abs(row.fee_minor)) > money.MAX_MINOR for row in rows):
        raise SettlementsUnreadable("an amount beyond all limits")
    return tuple(msgspec.structs.replace(row, provider=account) for row in rows)
