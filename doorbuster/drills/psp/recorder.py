"""The drill's own witness in its own shop's database: triggers that write down when attempts and circuits change state.

The shop keeps what an attempt came to, not when. Whether another provider was asked too early is a question of when, so
the drill writes that down itself, in the transaction that changes it. Nothing of this exists in a shop without a drill.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from doorbuster.drills.psp.accounts import Simulators
from doorbuster.drills.psp.evidence import Attempt, Change, Charge, CircuitChange, Payment, Sample
from doorbuster.engines.payment_router import routing
from doorbuster.engines.payment_router.routing import Decision, RoutingRules

_QUERY_S = 60
SAMPLE_S = 0.25

_INSTALL = """
CREATE SCHEMA drill;
CREATE TABLE drill.attempt_state (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payment_id uuid, number int, provider text, state text,
    amount_minor bigint, currency text, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE drill.circuit_state (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, provider text, state text, step int,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE drill.permits (provider text, live int, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION drill.saw_attempt() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO drill.attempt_state (payment_id, number, provider, state, amount_minor, currency)
    VALUES (NEW.payment_id, NEW.number, NEW.provider, NEW.state, NEW.amount_minor, NEW.currency);
    RETURN NULL;
END $$;
CREATE FUNCTION drill.saw_circuit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO drill.circuit_state (provider, state, step) VALUES (NEW.provider, NEW.state, NEW.step);
    RETURN NULL;
END $$;
CREATE FUNCTION drill.saw_permit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO drill.permits (provider, live) SELECT NEW.provider, count(*) FROM payment.provider_probe p
     WHERE p.provider = NEW.provider AND p.method = NEW.method AND p.merchant = NEW.merchant
       AND p.ends_at > clock_timestamp();
    RETURN NULL;
END $$;
CREATE TRIGGER drill_begun AFTER INSERT ON payment.attempt FOR EACH ROW EXECUTE FUNCTION drill.saw_attempt();
CREATE TRIGGER drill_moved AFTER UPDATE OF state ON payment.attempt FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION drill.saw_attempt();
CREATE TRIGGER drill_circuit AFTER INSERT OR UPDATE ON payment.provider_circuit FOR EACH ROW
    EXECUTE FUNCTION drill.saw_circuit();
CREATE TRIGGER drill_permit AFTER INSERT ON payment.provider_probe FOR EACH ROW EXECUTE FUNCTION drill.saw_permit();
"""

_ATTEMPTS = """
SELECT a.payment_id::text, a.number, a.provider, a.reference, a.provider_id, a.amount_minor, a.currency, a.state,
       extract(epoch FROM a.created_at)::float8 - $1,
       coalesce(d.document -> 'standings' -> a.provider ->> 'why' = 'probe', false),
       coalesce((d.document ->> 'last_resort')::bool, false), a.code
  FROM payment.attempt a LEFT JOIN payment.decision d USING (payment_id, number) ORDER BY a.created_at
"""
_CHANGES = """
SELECT payment_id::text, number, state, extract(epoch FROM at)::float8 - $1 FROM drill.attempt_state ORDER BY seq
"""
_CIRCUITS = """
SELECT provider, state, step, extract(epoch FROM at)::float8 - $1 FROM drill.circuit_state ORDER BY seq
"""
_PAYMENTS = """
SELECT id::text, order_id::text AS order_id, state, code, extract(epoch FROM created_at)::float8 - $1
  FROM payment.payment ORDER BY created_at
"""
UNDER_WAY = """
SELECT a.reference, a.state FROM payment.attempt a
 WHERE a.state IN ('sending', 'unknown', 'pending') AND NOT EXISTS (
       SELECT FROM payment.matter m
        WHERE m.payment_id = a.payment_id AND m.number = a.number AND m.closed_at IS NULL)
"""
"""Attempts whose outcome is open, and which no person was told of."""
OWED = """
SELECT r.id FROM payment.refund r
 WHERE r.state = 'sending' AND NOT EXISTS (
       SELECT FROM payment.matter m WHERE m.refund_id = r.id AND m.closed_at IS NULL)
"""
TOLD = "SELECT payment_id FROM payment.matter WHERE closed_at IS NULL"
"""Payments that a person must look at: their orders wait for that."""
_LOOK = """
SELECT provider, count(*) AS attempts, count(*) FILTER (WHERE state IN ('sending', 'unknown', 'pending')) AS open
  FROM payment.attempt GROUP BY provider
"""


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the drill's own."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def install(dsn: str) -> None:
    """Set the witness up, as superuser, before the first payment."""
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(_INSTALL, timeout=_QUERY_S)


async def sample_until(stop: asyncio.Event, dsn: str, simulators: Simulators, zero: float) -> tuple[Sample, ...]:
    """Look each SAMPLE_S until `stop`, read-only. `zero` is the Unix time of the first payment."""
    found: list[Sample] = []
    loop = asyncio.get_running_loop()
    async with connected(dsn) as connection:
        await connection.execute("SET default_transaction_read_only = on")
        while not stop.is_set():
            began = loop.time()
            at = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            rows = await connection.fetch(_LOOK, timeout=_QUERY_S)
            permits = await connection.fetchval(
                "SELECT count(*) FROM payment.provider_probe WHERE ends_at > clock_timestamp()", timeout=_QUERY_S
            )
            captured = await asyncio.gather(*(one.captured() for one in simulators.all))
            found.append(
                Sample(
                    round(at - zero, 3),
                    {row["provider"]: row["attempts"] for row in rows},
                    {row["provider"]: row["open"] for row in rows},
                    {s.account.name: n for s, n in zip(simulators.all, captured, strict=True) if n is not None},
                    permits,
                )
            )
            await asyncio.sleep(max(0.0, SAMPLE_S - (loop.time() - began)))
    return tuple(found)


class Books(msgspec.Struct, frozen=True):
    """Our own books, read at one moment."""

    payments: tuple[Payment, ...]
    attempts: tuple[Attempt, ...]
    changes: tuple[Change, ...]
    circuits: tuple[CircuitChange, ...]
    most_permits: int
    cases: int
    unknown_without_case: int
    decisions: int
    decisions_that_differ: tuple[str, ...]


async def read_books(payment_dsn: str, order_dsn: str, zero: float) -> Books:
    """Everything our books say, with times since `zero`."""
    async with connected(order_dsn) as orders:
        states = dict(await orders.fetch('SELECT id::text, state FROM "order".orders', timeout=_QUERY_S))
    async with connected(payment_dsn) as db, db.transaction(isolation="repeatable_read", readonly=True):
        payments = await db.fetch(_PAYMENTS, zero, timeout=_QUERY_S)
        attempts = await db.fetch(_ATTEMPTS, zero, timeout=_QUERY_S)
        changes = await db.fetch(_CHANGES, zero, timeout=_QUERY_S)
        circuits = await db.fetch(_CIRCUITS, zero, timeout=_QUERY_S)
        permits = await db.fetchval("SELECT coalesce(max(live), 0) FROM drill.permits", timeout=_QUERY_S)
        cases = await db.fetchval("SELECT count(*) FROM payment.matter WHERE closed_at IS NULL", timeout=_QUERY_S)
        nobodys = await db.fetch(UNDER_WAY, timeout=_QUERY_S)
        decided = await db.fetch("SELECT document::text FROM payment.decision", timeout=_QUERY_S)
        rules = await db.fetch("SELECT document::text FROM payment.routing_rules", timeout=_QUERY_S)
    return Books(
        tuple(_payment(row, states.get(row["order_id"], "gone")) for row in payments),
        tuple(Attempt(*row) for row in attempts),
        tuple(Change(*row) for row in changes),
        tuple(CircuitChange(*row) for row in circuits),
        permits,
        cases,
        len(nobodys),
        len(decided),
        tuple(_differing([row[0] for row in decided], [row[0] for row in rules])),
    )


def _payment(row: asyncpg.Record, order_state: str) -> Payment:
    return Payment(row[0], row[1], row[2], row[3], row[4], order_state)


def _differing(decisions: Sequence[str], rules: Sequence[str]) -> list[str]:
    """Payments whose decision, made again from what it kept, is another one."""
    decode = msgspec.json.Decoder(RoutingRules).decode
    versions = {one.version: one for one in map(decode, rules)}
    found = []
    for one in map(msgspec.json.Decoder(Decision).decode, decisions):
        known = versions.get(one.rules_version)
        if known is None or routing.replay(one, known) != one:
            found.append(str(one.facts.payment_id))
    return found


def read_ledger(account: str, charges: Sequence[Mapping[str, Any]], zero: float) -> list[Charge]:
    """A simulator's ledger as values, with times since `zero`."""
    return [
        Charge(
            account, one["id"], one["reference"], one["amount_minor"], one["currency"],
            _epoch(one["created_at"]) - zero, one["status"] == "captured", one.get("refunded_minor") or 0,
        )
        for one in charges
    ]  # fmt: skip


def _epoch(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
