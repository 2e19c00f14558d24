"""The SQL of sessions: payments that the buyer makes in a provider's window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.commerce.payment import rules
from doorbuster.domains.commerce.payment.models import BankAccount, Payment, SessionWish
from doorbuster.domains.commerce.payment.store import DB, PAYMENT, as_payment
from doorbuster.engines.payment_router import Deposit
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import db
from doorbuster.platform.db import Conn

_BEGIN = f"""
WITH made AS (
    INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state, code, started_by)
    VALUES ($1, $2, $3, $4, $5, $6, CASE $7 WHEN '' THEN 'failed' ELSE 'waiting' END,
            CASE $7 WHEN '' THEN 'no_provider' ELSE '' END, $8)
    ON CONFLICT DO NOTHING RETURNING *),
attempts AS (
    INSERT INTO attempt (payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state,
                         method, next_inquiry_at)
    SELECT id, 1, $7, id || '.1', id || '.1', amount_minor, currency, 'opening', $9,
           clock_timestamp() + make_interval(secs => $10) FROM made WHERE $7 <> ''),
sessions AS (
    INSERT INTO session (payment_id, title, return_url, expires_at)
    SELECT id, $11, $12, clock_timestamp() + make_interval(secs => $13) FROM made),
decisions AS (INSERT INTO decision (payment_id, number, document) SELECT id, 1, $14::json FROM made)
SELECT {PAYMENT}, started_by FROM made
"""

_LOCKED = "p AS MATERIALIZED (SELECT id FROM payment WHERE id = $1 FOR UPDATE)"
"""The payment's lock comes first, as everywhere: what is read of an attempt under it holds until the commit."""


async def begin(
    wish: SessionWish, mark: UUID, decision: Decision, first_look_s: float, lasts_s: float
) -> tuple[Payment, UUID | None] | None:
    """The payment with its session and first attempt, marked: made here, or as it stands. None: another payment of this
    order is live."""
    rows = await DB.write(
        _BEGIN,
        wish.payment_id, wish.order_id, wish.customer_id, wish.amount_minor, wish.currency, wish.request_hash,
        decision.chosen, mark, wish.method, first_look_s, wish.title, wish.return_url, lasts_s,
        db.rows(decision),
    )  # fmt: skip
    if not rows:
        query = f"SELECT {PAYMENT}, started_by FROM payment WHERE id = $1"
        rows = await DB.fetch(query, wish.payment_id)
    return (as_payment(rows[0][:10]), rows[0][10]) if rows else None


async def read_failed(order_id: UUID) -> list[str]:
    """Accounts that surely took nothing of this order's payments in a window, and not because the buyer left."""
    rows = await DB.fetch(
        "SELECT DISTINCT a.provider FROM payment p JOIN attempt a ON a.payment_id = p.id WHERE p.order_id = $1"
        " AND a.method <> 'card' AND a.state IN ('not_sent', 'not_executed') AND NOT a.code = ANY($2::text[])",
        order_id,
        rules.NOT_ITS_FAULT,
    )
    return [row[0] for row in rows]


async def lock_and_open(
    payment_id: UUID, number: int, provider_id: str, client: Mapping[str, str | int] | None
) -> bool:
    """The window of an attempt stands: from now on it may be confirmed, until it expires. False: it was given up."""
    rows = await DB.write(
        f"WITH {_LOCKED}, kept AS (UPDATE session SET client = $4::json WHERE payment_id = $1 RETURNING expires_at)"
        " UPDATE attempt SET state = 'window', provider_id = $3, next_inquiry_at = kept.expires_at FROM kept, p"
        " WHERE payment_id = p.id AND number = $2 AND state = 'opening' RETURNING number",
        payment_id, number, provider_id, None if client is None else db.rows(client),
    )  # fmt: skip
    return bool(rows)


class Seat(msgspec.Struct, frozen=True):
    """A payment in its window, with its last attempt."""

    payment: Payment
    customer_id: UUID
    attempt: asyncpg.Record
    title: str
    return_url: str
    expires_at: datetime
    is_expired: bool
    client: dict[str, str | int] | None
    token: str
    confirm_key: str
    confirm_hash: str


_SEAT = f"""
SELECT {", ".join(f"p.{name.strip()}" for name in PAYMENT.split(","))}, p.customer_id, s.title, s.return_url,
       s.expires_at, s.expires_at <= clock_timestamp() AS is_expired, s.client::text AS client, s.token, s.confirm_key,
       s.confirm_hash, a AS attempt
  FROM session s JOIN payment p ON p.id = s.payment_id
  JOIN attempt a ON a.payment_id = p.id AND a.number = (SELECT max(number) FROM attempt WHERE payment_id = p.id)
 WHERE s.payment_id = $1
"""


async def read_seat(payment_id: UUID) -> Seat | None:
    """None: there is no such payment in a window. In one statement, as a confirm moves session and attempt at once."""
    row = await DB.fetchrow(_SEAT, payment_id)
    if row is None:
        return None
    client = None if row["client"] is None else msgspec.json.decode(row["client"], type=dict[str, str | int])
    return Seat(
        as_payment(row[:10]), row["customer_id"], row["attempt"], row["title"], row["return_url"], row["expires_at"],
        row["is_expired"], client, row["token"], row["confirm_key"], row["confirm_hash"],
    )  # fmt: skip


async def lock_and_take(
    payment_id: UUID, number: int, token: str, key: str, form_hash: str, first_look_s: float
) -> bool:
    """The confirm of a window is under way, and durable: of all who come, one may send it. Not once it has expired."""
    rows = await DB.write(
        f"WITH {_LOCKED}, taken AS (UPDATE attempt SET state = 'sending', inquiries = 0,"
        "  next_inquiry_at = clock_timestamp() + make_interval(secs => $6) FROM p"
        "  WHERE payment_id = p.id AND number = $2 AND state = 'window'"
        "  AND (SELECT expires_at > clock_timestamp() FROM session WHERE payment_id = $1) RETURNING payment_id)"
        " UPDATE session SET token = $3, confirm_key = $4, confirm_hash = $5 FROM taken"
        " WHERE session.payment_id = taken.payment_id RETURNING session.payment_id",
        payment_id, number, token, key, form_hash, first_look_s,
    )  # fmt: skip
    return bool(rows)


async def note_return(payment_id: UUID, code: str) -> None:
    """Why the buyer came back without having paid, as the browser tells it."""
    query = "UPDATE session SET returned_code = $2 WHERE payment_id = $1 RETURNING payment_id"
    await DB.write(query, payment_id, code)


async def lock_and_close(payment_id: UUID, number: int) -> bool:
    """It will not be confirmed any more. False: it is not in its window (any more), so others settle it."""
    rows = await DB.write(
        f"WITH {_LOCKED} UPDATE attempt SET state = 'closing' FROM p WHERE payment_id = p.id AND number = $2"
        " AND state IN ('opening', 'window', 'closing') RETURNING number",
        payment_id, number,
    )  # fmt: skip
    return bool(rows)


async def keep_refund_account(payment_id: UUID, customer_id: UUID | None, account: BankAccount) -> bool:
    """Where a payment's transfer goes back to; refunds that waited for it are due now. False: there is no such payment
    by transfer (of this customer, where one is named)."""
    rows = await DB.write(
        "WITH kept AS (UPDATE session s SET refund_to = $3::json FROM payment p WHERE p.id = s.payment_id"
        "  AND s.payment_id = $1 AND ($2::uuid IS NULL OR p.customer_id = $2) AND EXISTS"
        "  (SELECT FROM attempt a WHERE a.payment_id = p.id AND a.method = 'virtual_account') RETURNING s.payment_id),"
        " due AS (UPDATE refund r SET next_try_at = clock_timestamp() FROM kept"
        "  WHERE r.payment_id = kept.payment_id AND r.state = 'sending')"
        " SELECT payment_id FROM kept",
        payment_id, customer_id, db.rows(account),
    )  # fmt: skip
    return bool(rows)


async def read_token(payment_id: UUID) -> str:
    """With what the window of a payment was confirmed; empty: it was not."""
    row = await DB.fetchrow("SELECT token FROM session WHERE payment_id = $1", payment_id)
    return "" if row is None else str(row[0])


async def keep_deposits(conn: Conn, deposits: Mapping[UUID, Deposit]) -> None:
    """The accounts into which buyers are to pay; their payments are locked."""
    await conn.execute(
        "UPDATE session s SET deposit_bank = n.bank, deposit_number = n.number, deposit_due = n.due"
        " FROM json_to_recordset($1::json) AS n(id uuid, bank text, number text, due text) WHERE s.payment_id = n.id",
        db.rows([
            {"id": key, "bank": one.bank[:100], "number": one.number[:100], "due": one.due[:100]}
            for key, one in deposits.items()
        ]),
    )  # fmt: skip
