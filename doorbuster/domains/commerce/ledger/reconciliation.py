"""The steps of a reconciliation: read a provider's days, match what says the same, and make cases of the rest.

Every step may run twice, and two at once: rows have ids of their own, and matching is done under the account's lock.
The daily job runs each step as a chunk of its tick, so that a scheduler that lost its lease writes nothing; a person's
reading runs them as plain transactions.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec
import structlog

from doorbuster.domains.commerce.ledger import rules, store
from doorbuster.domains.commerce.ledger.errors import TooMuchUnexplained
from doorbuster.domains.commerce.ledger.models import Finding, Row
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import SettlementsUnreadable
from doorbuster.engines.payment_router.provider import SettlementRow
from doorbuster.engines.schedule import Run
from doorbuster.platform import settings
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.settings import SettlementTerms

MADE_UP_DAYS = 31
"""So far back a day that was missed is made up by itself; older ones are read by hand."""
MAX_UNEXPLAINED = 20_000
_SLICE = 250
"""Payments matched in one transaction: whoever books waits for it."""
ROWS_AT_ONCE = 2_000
_LOG = structlog.get_logger("ledger")


class NotAllRead(Exception):
    """Some accounts could not be read; the tick is tried again, and what was read stays."""


class Steps(Protocol):
    """What a reconciliation runs in: a run of the daily job, or `Plain`."""

    def chunk(self, key: str) -> AbstractAsyncContextManager[Conn | None]:
        """A transaction for one step, or None when it is done already."""


class Plain:
    """Guards nothing: each step is a transaction of its own."""

    def chunk(self, key: str) -> AbstractAsyncContextManager[Conn | None]:
        return store.DB.transaction()


class Tally(msgspec.Struct):
    """What a reconciliation has done so far."""

    rows: int = 0
    new: int = 0
    matched: int = 0
    opened: int = 0
    closed: int = 0


class _Place(msgspec.Struct, frozen=True):
    """How far a tick has come with an account: the next page of a day, and how many rows of it there were."""

    day: str = ""
    page: str = ""
    number: int = 0
    rows: int = 0


def terms_of(account: str) -> SettlementTerms:
    """How an account settles. KeyError for one that the settings do not have."""
    return settings.current().providers[account].settlement


async def run_daily(run: Run) -> None:
    """The job: yesterday of each account, again the days that may have grown since, and the days that were missed.

    An account that cannot be read does not keep the others; the tick is tried again for it, and tomorrow's makes the
    day up.
    """
    failed = []
    for account in payment_router.settling_accounts():
        try:
            await _daily(run, account)
        except (Unavailable, SettlementsUnreadable, TooMuchUnexplained) as error:
            _LOG.error("not_reconciled", provider=account, why=str(error))
            failed.append(f"{account}: {error}")
    if failed:
        raise NotAllRead("; ".join(failed))


async def _daily(run: Run, account: str) -> None:
    terms = terms_of(account)
    yesterday = run.scheduled_for.astimezone(ZoneInfo(terms.zone)).date() - dt.timedelta(days=1)
    read = await store.read_days(account)
    first = await store.read_first_day(account, terms.zone) or yesterday
    days = rules.days_to_read(yesterday, read, first, again=terms.grace_days, at_most=MADE_UP_DAYS)
    noted = msgspec.json.decode(run.notes)
    place = msgspec.convert(noted.get(account, {}), _Place)
    done = msgspec.convert(noted.get(f"{account} did", {}), Tally)
    for day in days:
        if place.day <= day.isoformat():
            here = place if place.day == day.isoformat() else _Place(day.isoformat())
            place = await _read_day(run, account, day, here, done, run)
    await match(run, account, done, f"try {run.attempt}")
    await judge(run, account, done, f"try {run.attempt}")
    run.note(**{f"{account} did": msgspec.to_builtins(done)})


async def read_day(account: str, day: dt.date, done: Tally) -> None:
    """Read one day of an account now."""
    await _read_day(Plain(), account, day, _Place(day.isoformat()), done, None)


async def _read_day(steps: Steps, account: str, day: dt.date, place: _Place, done: Tally, run: Run | None) -> _Place:
    """Keep all rows of a day, a page a step, from where an earlier try has come to."""
    if place.number and not place.page:
        return place
    async for page in payment_router.settlement_rows(account, day, place.page):
        async with steps.chunk(f"{account} {day} page {place.number}") as conn:
            assert conn is not None, "the notes of a page are kept with its chunk, so it is not asked for again"
            await keep_rows(conn, account, page.rows, "call", done)
            place = _Place(place.day, page.next_page, place.number + 1, place.rows + len(page.rows))
            if not page.next_page:
                await store.note_day(conn, account, day, place.rows, "call")
            if run is not None:
                run.note(**{account: msgspec.to_builtins(place), f"{account} did": msgspec.to_builtins(done)})
    return place


async def keep_rows(conn: Conn, account: str, rows: Sequence[SettlementRow], source: str, done: Tally) -> None:
    """Keep rows as evidence, once each, in the transaction of the caller.

    A row that comes again with other figures takes the place of the earlier one while that is unmatched, and is a case
    of its own when it had been matched.
    """
    # The lock first: a row must not be matched between the look at it and its revision.
    await store.lock_account(conn, account)
    done.rows += len(rows)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        told = {row.id: row for row in (_row(account, one) for one in rows[start : start + ROWS_AT_ONCE])}
        known = await store.read_rows(conn, list(told))
        done.new += await store.insert_rows(conn, [row for row in told.values() if row.id not in known], source)
        again = [(before, told[i], partner is not None) for i, (before, partner) in known.items()]
        done.opened += await _revise(conn, account, again)


def _row(account: str, one: SettlementRow) -> Row:
    return Row(
        rules.row_id(account, one.transaction_id, one.amount_minor), account, one.provider_id, one.transaction_id,
        one.reference, one.amount_minor, one.fee_minor, one.currency, one.fee_currency or one.currency, one.sold_on,
        one.paid_on,
    )  # fmt: skip


async def _revise(conn: Conn, account: str, again: Sequence[tuple[Row, Row, bool]]) -> int:
    """What is said of known rows now; returns how many cases that opened."""
    changed = [(before, now, is_matched) for before, now, is_matched in again if before != now]
    revised, contradicted = [], []
    for before, now, is_matched in changed:
        if not is_matched:
            revised.append(now)
            continue
        if (found := rules.contradiction(before, now)) is not None:
            contradicted.append(found)
        if now.paid_on is not None and before.paid_on is None:
            # The payout has a day now: that is news, not a contradiction.
            revised.append(msgspec.structs.replace(before, paid_on=now.paid_on))
            await store.insert_journal(conn, rules.booked_row(revised[-1]))
    if revised:
        await store.revise_rows(conn, revised)
    return (await store.write_cases(conn, account, contradicted, all_of_it=False))[0] if contradicted else 0


async def match(steps: Steps, account: str, done: Tally, tag: str = "") -> None:
    """Pair all open rows with movements that say the same, and book them."""
    for by, pairs_of in (("provider_id", rules.pairs_by_payment), ("reference", rules.pairs_by_reference)):
        after = ""
        for number in itertools.count():
            async with steps.chunk(f"{account} match {by} {number} {tag}") as conn:
                if conn is None:
                    break
                await store.lock_account(conn, account)
                names = await store.read_open_names(conn, account, by, after, _SLICE)
                if not names:
                    break
                after = names[-1]
                pairs = pairs_of(*await store.read_open(conn, account, by, names))
                if pairs:
                    await _write(conn, account, pairs, done)


async def _write(conn: Conn, account: str, pairs: Sequence[rules.Pair], done: Tally) -> None:
    done.matched += len(pairs)
    done.closed += await store.write_pairs(conn, pairs)
    await store.insert_journal(conn, [one for row, _ in pairs for one in rules.booked_row(row)])
    fees = terms_of(account).fees
    found = [one for row, moved in pairs if (one := rules.fee_finding(row, moved, fees)) is not None]
    done.opened += (await store.write_cases(conn, account, found, all_of_it=False))[0]


async def judge(steps: Steps, account: str, done: Tally, tag: str = "") -> None:
    """Make cases of what is open after matching, and close those that were explained."""
    terms = terms_of(account)
    async with steps.chunk(f"{account} judge {tag}") as conn:
        if conn is None:
            return
        await store.lock_account(conn, account)
        found = await _found(conn, account, terms, done)
        opened, closed = await store.write_cases(conn, account, found, all_of_it=True)
    done.opened, done.closed = done.opened + opened, done.closed + closed


async def _found(conn: Conn, account: str, terms: SettlementTerms, done: Tally) -> list[Finding]:
    zone = ZoneInfo(terms.zone)
    rows = await store.read_unexplained(conn, account, MAX_UNEXPLAINED + 1)
    silent = rules.days_settled(await store.read_days(account, conn), terms.grace_days)
    overdue = await store.read_overdue(conn, account, terms.zone, silent, MAX_UNEXPLAINED + 1)
    if max(len(rows), len(overdue)) > MAX_UNEXPLAINED:
        raise TooMuchUnexplained(
            f"more than {MAX_UNEXPLAINED} rows or movements of {account} have no other side; look whether the ledger"
            " hears its facts (doorbuster events lag) and whether the account is the right one"
        )
    opened, known = await store.read_related(conn, rows)
    # What came in since the matching, by somebody else's reading or from the log, is matched before it is judged.
    pairs = rules.pairs(rows, {one.id: one for one in (*opened, *(one for one, _ in overdue))}.values())
    if pairs:
        await _write(conn, account, pairs, done)
    there, ours = {row.id for row, _ in pairs}, {moved.id for _, moved in pairs}
    found = rules.findings(
        [row for row in rows if row.id not in there], [one for one in opened if one.id not in ours], known,
        [(one, day) for one, day in overdue if one.id not in ours],
    )  # fmt: skip
    orders = await store.read_doubled(conn, account, MAX_UNEXPLAINED)
    settled = []
    for order_id, of_order in orders.items():
        last = max(one.moved_at for one in of_order if one.amount_minor > 0)
        finding = rules.captured_twice(of_order, last.astimezone(zone).date())
        if finding is None:
            settled.append(order_id)
        else:
            found.append(finding)
    await store.forget_doubled(conn, settled)
    return found
