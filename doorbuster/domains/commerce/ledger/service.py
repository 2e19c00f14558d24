"""Public verbs of ledger: balances, reconciliation of a day or a file, reports, cases."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from doorbuster.domains.commerce.ledger import errors, reconciliation, rules, store
from doorbuster.domains.commerce.ledger.models import Balance, Case, Close, Reading, Report
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import SettlementsUnreadable
from doorbuster.platform import settings
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.errors import NotFound, Unavailable

_PLAIN = reconciliation.Plain()


@query
async def balances(ctx: Ctx) -> tuple[Balance, ...]:
    """All accounts of the books, by name. Over all of a currency they sum to nothing."""
    return await store.read_balances()


@command
async def reconcile(ctx: Ctx, provider: str, day: dt.date) -> Reading:
    """Read one of the provider's days now, match it, make cases. Twice is once.

    Refuses with UnknownProvider and NoSettlements; Unavailable when the provider does not answer, or not with what it
    documents.
    """
    _require(provider)
    if provider not in payment_router.settling_accounts():
        raise errors.NoSettlements(f"{provider} cannot be asked for its rows; it may have a file")
    done = reconciliation.Tally()
    try:
        await reconciliation.read_day(provider, day, done)
    except SettlementsUnreadable as error:
        raise Unavailable(f"The settlement rows of {provider} cannot be read ({error})") from error
    return await _match(provider, day, done)


@command
async def take_file(ctx: Ctx, provider: str, day: dt.date | None, file: bytes) -> Reading:
    """Take a provider's settlement file, match it, make cases. The same file twice is once.

    With a day the file is taken for all of that day's rows; without one only for those it has. Refuses with
    UnknownProvider, NoSettlements and UnreadableSettlements, and then keeps no row of it.
    """
    _require(provider)
    if not payment_router.takes_settlement_files(provider):
        raise errors.NoSettlements(f"There is no settlement file of {provider} that could be read")
    try:
        rows = payment_router.read_settlement_file(provider, file)
    except SettlementsUnreadable as error:
        raise errors.UnreadableSettlements(str(error)) from error
    done = reconciliation.Tally()
    for start in range(0, len(rows), reconciliation.ROWS_AT_ONCE):
        async with store.DB.transaction() as conn:
            part = rows[start : start + reconciliation.ROWS_AT_ONCE]
            await reconciliation.keep_rows(conn, provider, part, "file", done)
    if day is not None:
        async with store.DB.transaction() as conn:
            await store.note_day(conn, provider, day, sum(row.sold_on == day for row in rows), "file")
    return await _match(provider, day, done)


async def _match(provider: str, day: dt.date | None, done: reconciliation.Tally) -> Reading:
    await reconciliation.match(_PLAIN, provider, done)
    await reconciliation.judge(_PLAIN, provider, done)
    return Reading(provider, day, done.rows, done.new, done.matched, done.opened, done.closed)


@query
async def report(ctx: Ctx, provider: str, day: dt.date) -> Report:
    """What a day of an account came to, as it stands now. Refuses with UnknownProvider."""
    _require(provider)
    return await store.read_report(provider, reconciliation.terms_of(provider).zone, day)


@query
async def reports(ctx: Ctx, provider: str, limit: int) -> tuple[Report, ...]:
    """The newest days that were read, of one account or, when `provider` is empty, of all that the shop still has."""
    known = settings.current().providers
    days = [found for found in await store.read_latest_days(provider, limit) if found[0] in known]
    return tuple([await store.read_report(one, reconciliation.terms_of(one).zone, day) for one, day in days])


@query
async def cases(
    ctx: Ctx, state: str, provider: str, kind: str, before: tuple[dt.datetime, UUID] | None, limit: int
) -> tuple[Case, ...]:
    """Cases, the newest first; `before` goes on behind one. An empty provider or kind is any."""
    return await store.read_cases(state, provider, kind, before, limit)


@command
async def close_case(ctx: Ctx, case_id: UUID, wish: Close) -> Case:
    """Close a case for good, with a note. Closed the same way by the same person again, it is answered as it stands.

    Refuses with NotFound, and with CaseClosed when somebody else did, or said something else.
    """
    by = str(ctx.subject) if ctx.subject is not None else "system"
    async with store.DB.transaction() as conn:
        known = await store.lock_case(conn, case_id)
        if known is None:
            raise NotFound(f"There is no case {case_id}")
        if known.state == "closed":
            if (known.closed_by, known.note) == (by, wish.note):
                return known
            if known.closed_by != rules.EXPLAINED:
                raise errors.CaseClosed(f"It was closed by {known.closed_by}: {known.note}")
        await store.close_case(conn, case_id, by, wish.note)
        closed = await store.lock_case(conn, case_id)
    assert closed is not None and closed.state == "closed"
    return closed


def _require(provider: str) -> None:
    if provider not in settings.current().providers:
        known = ", ".join(settings.current().providers)
        raise errors.UnknownProvider(f"There is no account {provider!r}; there are {known}")
