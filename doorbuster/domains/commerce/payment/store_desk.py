"""The SQL of what customers and operators look at, and of the cards that customers keep with us."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.domains.commerce.payment.models import (
    Attempt,
    DepositAccount,
    Instrument,
    InstrumentWish,
    KeyAtAccount,
    PaymentDetail,
    PaymentFilter,
    PaymentLine,
)
from doorbuster.domains.commerce.payment.store import DB
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import db


async def read_detail(payment_id: UUID, customer_id: UUID | None) -> PaymentDetail | None:
    """A payment with its attempts; of this customer, where one is named. Its refunds are read apart."""
    row = await DB.fetchrow(
        "SELECT id, order_id, state, code, amount_minor, currency, returning_minor, returned_minor, created_at,"
        " updated_at, s.deposit_bank, s.deposit_number, s.deposit_due FROM payment"
        " LEFT JOIN session s ON s.payment_id = id WHERE id = $1 AND ($2::uuid IS NULL OR customer_id = $2)",
        payment_id,
        customer_id,
    )
    if row is None:
        return None
    attempts = await DB.fetch(
        "SELECT number, provider, state, provider_id, code, created_at FROM attempt WHERE payment_id = $1"
        " ORDER BY number",
        payment_id,
    )
    shown = dict(row)
    bank, number, due = (str(shown.pop(f"deposit_{what}") or "") for what in ("bank", "number", "due"))
    return PaymentDetail(
        **shown,
        attempts=tuple(Attempt(*attempt) for attempt in attempts),
        refunds=(),
        deposit=DepositAccount(bank, number, due) if row["state"] == "waiting" and number else None,
    )


async def read_page(which: PaymentFilter, before: tuple[datetime, UUID] | None, limit: int) -> list[PaymentLine]:
    at, payment_id = before or (None, None)
    rows = await DB.fetch(
        "SELECT p.id, p.order_id, p.state, p.code, p.amount_minor, p.currency, p.returned_minor,"
        " coalesce(a.provider, ''), p.created_at FROM payment p LEFT JOIN LATERAL"
        " (SELECT provider FROM attempt WHERE payment_id = p.id ORDER BY number DESC LIMIT 1) a ON true"
        " WHERE ($1 = '' OR p.state = $1) AND ($2 = '' OR a.provider = $2) AND ($3::uuid IS NULL OR p.order_id = $3)"
        " AND ($4::timestamptz IS NULL OR (p.created_at, p.id) < ($4, $5))"
        " ORDER BY p.created_at DESC, p.id DESC LIMIT $6",
        which.state, which.provider, which.order_id, at, payment_id, limit,
    )  # fmt: skip
    return [PaymentLine(*row) for row in rows]


async def read_decisions(payment_id: UUID) -> list[Decision]:
    rows = await DB.fetch("SELECT document::text FROM decision WHERE payment_id = $1 ORDER BY number", payment_id)
    return [msgspec.json.decode(row[0], type=Decision) for row in rows]


async def read_keys(instrument_id: UUID, customer_id: UUID) -> dict[str, KeyAtAccount]:
    """An instrument's key by account; none, when this customer keeps no such instrument."""
    rows = await DB.fetch(
        "SELECT k.provider, k.key, k.customer FROM instrument i JOIN instrument_key k ON k.instrument_id = i.id"
        " WHERE i.id = $1 AND i.customer_id = $2",
        instrument_id,
        customer_id,
    )
    return {row[0]: KeyAtAccount(row[1], row[2]) for row in rows}


async def insert_instrument(instrument_id: UUID, customer_id: UUID, wish: InstrumentWish) -> None:
    """The instrument with all its keys, or nothing when it is there already."""
    await DB.write(
        "WITH kept AS (INSERT INTO instrument (id, customer_id, label) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING RETURNING id)"
        " INSERT INTO instrument_key (instrument_id, provider, key, customer)"
        " SELECT kept.id, n.provider, n.key, n.customer FROM kept,"
        " json_to_recordset($4::json) AS n(provider text, key text, customer text)"
        " RETURNING provider",
        instrument_id,
        customer_id,
        wish.label,
        db.rows([{"provider": name, "key": at.key, "customer": at.customer} for name, at in wish.keys.items()]),
    )


async def read_instruments(customer_id: UUID) -> list[Instrument]:
    rows = await DB.fetch(
        "SELECT i.id, i.label, array_agg(k.provider ORDER BY k.provider), i.created_at FROM instrument i"
        " JOIN instrument_key k ON k.instrument_id = i.id WHERE i.customer_id = $1 GROUP BY i.id"
        " ORDER BY i.created_at DESC, i.id DESC LIMIT 100",
        customer_id,
    )
    return [Instrument(row[0], row[1], tuple(row[2]), row[3]) for row in rows]


async def delete_instrument(instrument_id: UUID, customer_id: UUID) -> bool:
    query = "DELETE FROM instrument WHERE id = $1 AND customer_id = $2 RETURNING id"
    return bool(await DB.write(query, instrument_id, customer_id))


async def insert_act(actor: str, what: str, account: str, method: str, note: str) -> None:
    """What an operator did, for whoever asks later."""
    await DB.write(
        "INSERT INTO operator_act (actor, what, account, method, note) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        actor, what, account, method, note,
    )  # fmt: skip
