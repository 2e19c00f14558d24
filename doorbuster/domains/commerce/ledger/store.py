"""All SQL of ledger. One lock: an account at a provider, by advisory lock, while its rows are matched."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.commerce.ledger import rules
from doorbuster.domains.commerce.ledger.models import Balance, Case, Figure, Finding, Movement, Report, Row, Transaction
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("commerce.ledger")
_MOVEMENT = (
    "m.id, m.provider, m.provider_id, m.transaction_id, m.reference, m.payment_id, m.order_id, m.amount_minor,"
    " m.currency, m.reason, m.moved_at"
)
_ROW = (
    "r.id, r.provider, r.provider_id, r.transaction_id, r.reference, r.amount_minor, r.fee_minor, r.currency,"
    " r.fee_currency, r.sold_on, r.paid_on"
)
_CASE = (
    "id, provider, day, class, amount_minor, currency, ours, theirs, next_step, state, opened_at, closed_at,"
    " closed_by, note"
)
_OURS = msgspec.json.Decoder(tuple[Movement, ...])
_THEIRS = msgspec.json.Decoder(tuple[Row, ...])
_SELF_CLOSING = "('missing_ours', 'missing_theirs', 'amount', 'currency', 'duplicate_capture')"


async def lock_account(conn: Conn, provider: str) -> None:
    """Nobody else matches the rows of this account until this transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('settlement of ' || $1, 0))", provider)


# --- movements and the books ---


async def insert_movements(conn: Conn, movements: Sequence[Movement]) -> set[UUID]:
    """The ids of those that were new."""
    rows = await conn.fetch(
        "INSERT INTO movements (id, provider, provider_id, transaction_id, reference, payment_id, order_id,"
        " amount_minor, currency, reason, moved_at) SELECT id, provider, provider_id, transaction_id, reference,"
        " payment_id, order_id, amount_minor, currency, reason, moved_at FROM json_to_recordset($1::json) AS m(id uuid,"
        " provider text, provider_id text, transaction_id text, reference text, payment_id uuid, order_id uuid,"
        " amount_minor bigint, currency text, reason text, moved_at timestamptz)"
        " ON CONFLICT (id) DO NOTHING RETURNING id",
        db.rows(movements),
    )
    return {row["id"] for row in rows}


async def read_late(conn: Conn, provider_ids: Sequence[str]) -> set[tuple[str, str]]:
    """Which of these payments came in late, as (provider, provider's id)."""
    rows = await conn.fetch(
        "SELECT provider, provider_id FROM unnest($1::text[]) AS wanted(wanted_id)"
        " JOIN movements ON provider_id = wanted_id AND amount_minor > 0 AND reason = $2",
        provider_ids, rules.LATE,
    )  # fmt: skip
    return {(row["provider"], row["provider_id"]) for row in rows}


async def insert_journal(conn: Conn, transactions: Sequence[Transaction]) -> None:
    """Book what is not booked yet, with all its entries."""
    if not transactions:
        return
    await conn.execute(
        "WITH new AS (INSERT INTO journal (id, kind, source_id, happened_at) SELECT id, kind, source_id, happened_at"
        " FROM json_to_recordset($1::json) AS j(id uuid, kind text, source_id uuid, happened_at timestamptz)"
        " ON CONFLICT DO NOTHING RETURNING id)"
        " INSERT INTO entries (journal_id, line, account, currency, amount_minor)"
        " SELECT e.id, e.line, e.account, e.currency, e.amount_minor FROM json_to_recordset($2::json)"
        " AS e(id uuid, line smallint, account text, currency text, amount_minor bigint) JOIN new USING (id)",
        db.rows(transactions),
        db.rows([
            {"id": one.id, "line": line, **msgspec.structs.asdict(entry)}
            for one in transactions for line, entry in enumerate(one.entries, 1)
        ]),
    )  # fmt: skip


async def note_doubled(conn: Conn, order_ids: Sequence[UUID]) -> None:
    """Remember which of these orders have more than one capture, to be looked at."""
    await conn.execute(
        "INSERT INTO doubled_orders (order_id, provider)"
        " SELECT order_id, (array_agg(provider ORDER BY moved_at DESC, id DESC))[1] FROM movements"
        # A transfer that the bank took back was no capture: it goes back under the attempt's name, not a refund's.
        " WHERE order_id = ANY($1::uuid[]) AND (amount_minor > 0 OR position('.' IN reference) > 0) GROUP BY order_id"
        " HAVING sum(sign(amount_minor)) > 1"
        " ON CONFLICT (order_id) DO UPDATE SET provider = excluded.provider",
        order_ids,
    )


async def read_balances() -> tuple[Balance, ...]:
    rows = await DB.fetch(
        "SELECT account, currency, debit_minor, credit_minor, entries FROM balances ORDER BY account LIMIT 10000"
    )
    return tuple(
        Balance(r[0], r[1], int(r["debit_minor"] - r["credit_minor"]), int(r[2]), int(r[3]), r[4]) for r in rows
    )


# --- settlement rows ---


async def insert_rows(conn: Conn, rows: Sequence[Row], source: str) -> int:
    """Keep what is new; returns how many were. A row that is known stays as it is."""
    new = await conn.fetch(
        "INSERT INTO settlement_rows (id, provider, provider_id, transaction_id, reference, amount_minor, fee_minor,"
        " currency, fee_currency, sold_on, paid_on, source) SELECT id, provider, provider_id, transaction_id,"
        " reference, amount_minor, fee_minor, currency, fee_currency, sold_on, paid_on, $2"
        " FROM json_to_recordset($1::json) AS r(id uuid, provider text, provider_id text, transaction_id text,"
        " reference text, amount_minor bigint, fee_minor bigint, currency text, fee_currency text, sold_on date,"
        " paid_on date) ON CONFLICT (id) DO NOTHING RETURNING 1",
        db.rows(rows), source,
    )  # fmt: skip
    return len(new)


async def read_rows(conn: Conn, row_ids: Sequence[UUID]) -> dict[UUID, tuple[Row, UUID | None]]:
    """Rows as they were kept, each with the movement it is matched with."""
    found = await conn.fetch(f"SELECT {_ROW}, r.movement_id FROM settlement_rows r WHERE r.id = ANY($1)", row_ids)
    return {record["id"]: (Row(*list(record)[:-1]), record["movement_id"]) for record in found}


async def revise_rows(conn: Conn, rows: Sequence[Row]) -> None:
    """Put what the provider says now in the place of what it said before, and keep that too."""
    await conn.execute(
        "UPDATE settlement_rows o SET earlier = o.earlier || jsonb_build_object('provider_id', o.provider_id,"
        " 'reference', o.reference, 'amount_minor', o.amount_minor, 'fee_minor', o.fee_minor, 'currency', o.currency,"
        " 'fee_currency', o.fee_currency, 'sold_on', o.sold_on, 'paid_on', o.paid_on, 'until', clock_timestamp()),"
        " provider_id = n.provider_id, reference = n.reference, amount_minor = n.amount_minor,"
        " fee_minor = n.fee_minor, currency = n.currency, fee_currency = n.fee_currency, sold_on = n.sold_on,"
        " paid_on = n.paid_on FROM json_to_recordset($1::json) AS n(id uuid, provider_id text, reference text,"
        " amount_minor bigint, fee_minor bigint, currency text, fee_currency text, sold_on date, paid_on date)"
        " WHERE o.id = n.id",
        db.rows(rows),
    )


async def note_day(conn: Conn, provider: str, day: dt.date, rows: int, source: str) -> None:
    await conn.execute(
        "INSERT INTO days (provider, day, rows, source) VALUES ($1, $2, $3, $4) ON CONFLICT (provider, day)"
        " DO UPDATE SET rows = excluded.rows, source = excluded.source, last_read = clock_timestamp()",
        provider, day, rows, source,
    )  # fmt: skip


async def read_days(provider: str, conn: Conn | None = None) -> list[dt.date]:
    """The days that were read to their end, newest first."""
    query = "SELECT day FROM days WHERE provider = $1 ORDER BY day DESC LIMIT 4000"
    return [record["day"] for record in await (conn or DB).fetch(query, provider)]


async def read_first_day(provider: str, zone: str) -> dt.date | None:
    """The provider's day of the first movement of an account."""
    record = await DB.fetchrow(
        "SELECT (min(moved_at) AT TIME ZONE $2)::date FROM movements WHERE provider = $1", provider, zone
    )
    return cast("dt.date | None", record[0]) if record is not None else None


# --- matching ---

By = str
"""`provider_id` or `reference`: by which name open rows and movements are read together."""


async def read_open_names(conn: Conn, provider: str, by: By, after: str, limit: int) -> list[str]:
    """The next names under which rows are open."""
    found = await conn.fetch(
        f"SELECT DISTINCT {by} FROM settlement_rows WHERE provider = $1 AND movement_id IS NULL AND {by} > $2"
        f" ORDER BY {by} LIMIT $3",
        provider, after, limit,
    )  # fmt: skip
    return [record[0] for record in found]


async def read_open(conn: Conn, provider: str, by: By, names: Sequence[str]) -> tuple[list[Row], list[Movement]]:
    """All open rows and movements of these names, also those that a person has settled."""
    rows = await conn.fetch(
        f"SELECT {_ROW} FROM unnest($2::text[]) AS wanted(name) JOIN settlement_rows r ON r.provider = $1"
        f" AND r.{by} = name AND r.movement_id IS NULL",
        provider, names,
    )  # fmt: skip
    movements = await conn.fetch(
        f"SELECT {_MOVEMENT} FROM unnest($2::text[]) AS wanted(name) JOIN movements m ON m.provider = $1"
        f" AND m.{by} = name AND m.row_id IS NULL",
        provider, names,
    )  # fmt: skip
    return [Row(*record) for record in rows], [Movement(*record) for record in movements]


async def write_pairs(conn: Conn, pairs: Sequence[rules.Pair]) -> int:
    """Match rows with movements, and close what was asked about either; returns how many cases that closed."""
    row_ids, movement_ids = [row.id for row, _ in pairs], [moved.id for _, moved in pairs]
    for table, own, other in (("settlement_rows", "movement_id", 2), ("movements", "row_id", 1)):
        done = await conn.execute(
            f"UPDATE {table} t SET {own} = p.i{other} FROM unnest($1::uuid[], $2::uuid[]) AS p(i1, i2)"
            f" WHERE t.id = p.i{3 - other} AND t.{own} IS NULL",
            row_ids, movement_ids,
        )  # fmt: skip
        assert done == f"UPDATE {len(pairs)}", f"a pair was open and is not: {done} of {len(pairs)} {table}"
    closed = await conn.fetch(
        "UPDATE cases SET state = 'closed', closed_at = clock_timestamp(), closed_by = $3, note = 'the other side came'"
        f" WHERE state = 'open' AND class IN {_SELF_CLOSING} AND (row_id = ANY($1) OR movement_id = ANY($2))"
        " AND order_id IS NULL RETURNING id",
        row_ids, movement_ids, rules.EXPLAINED,
    )  # fmt: skip
    return len(closed)


async def read_unexplained(conn: Conn, provider: str, limit: int) -> list[Row]:
    """Rows that are no movement of ours and that nobody has settled."""
    found = await conn.fetch(
        f"SELECT {_ROW} FROM settlement_rows r WHERE r.provider = $1 AND r.provider_id >= '' AND r.movement_id IS NULL"
        " AND NOT r.waived ORDER BY r.provider_id LIMIT $2",
        provider, limit,
    )  # fmt: skip
    return [Row(*record) for record in found]


async def read_related(conn: Conn, rows: Sequence[Row]) -> tuple[list[Movement], list[Movement]]:
    """(open movements of the account, all movements anywhere) of the payments and references that these rows name."""
    if not rows:
        return [], []
    provider = rows[0].provider
    names = ([row.provider_id for row in rows], [row.reference for row in rows if row.reference])
    payments = [UUID(named) for row in rows if (named := rules.payment_of(row.reference))]
    opened = await conn.fetch(
        f"SELECT {_MOVEMENT} FROM movements m WHERE m.provider = $1 AND m.row_id IS NULL AND NOT m.waived"
        f" AND m.provider_id = ANY($2) UNION SELECT {_MOVEMENT} FROM movements m WHERE m.provider = $1"
        " AND m.row_id IS NULL AND NOT m.waived AND m.reference = ANY($3)",
        provider, *names,
    )  # fmt: skip
    known = await conn.fetch(
        f"SELECT {_MOVEMENT} FROM movements m WHERE m.provider = $1 AND m.provider_id = ANY($2)"
        f" UNION SELECT {_MOVEMENT} FROM movements m WHERE m.payment_id = ANY($3)",
        provider, names[0], payments,
    )  # fmt: skip
    return [Movement(*record) for record in opened], [Movement(*record) for record in known]


async def read_overdue(
    conn: Conn, provider: str, zone: str, days: Sequence[dt.date], limit: int
) -> list[tuple[Movement, dt.date]]:
    """Open movements of these days of the provider, each with its day there.

    A day that was read before the movement happened (today's, by hand) says nothing of it.
    """
    found = await conn.fetch(
        f"SELECT {_MOVEMENT}, d.day FROM movements m JOIN days d ON d.provider = m.provider"
        " AND d.day = (m.moved_at AT TIME ZONE $2)::date AND d.last_read > m.moved_at WHERE m.provider = $1"
        " AND m.row_id IS NULL AND NOT m.waived AND d.day = ANY($3::date[]) ORDER BY m.moved_at LIMIT $4",
        provider, zone, days, limit,
    )  # fmt: skip
    return [(Movement(*list(record)[:-1]), record["day"]) for record in found]


async def read_doubled(conn: Conn, provider: str, limit: int) -> dict[UUID, list[Movement]]:
    """All movements of the orders that were captured more than once, at any provider."""
    found = await conn.fetch(
        f"SELECT {_MOVEMENT} FROM movements m WHERE m.order_id = ANY(ARRAY(SELECT order_id FROM doubled_orders"
        " WHERE provider = $1 ORDER BY order_id LIMIT $2))",
        provider, limit,
    )  # fmt: skip
    orders: dict[UUID, list[Movement]] = {}
    for record in found:
        orders.setdefault(record["order_id"], []).append(Movement(*record))
    return orders


async def forget_doubled(conn: Conn, order_ids: Iterable[UUID]) -> None:
    await conn.execute("DELETE FROM doubled_orders WHERE order_id = ANY($1)", list(order_ids))


# --- cases ---


async def write_cases(conn: Conn, provider: str, found: Sequence[Finding], *, all_of_it: bool) -> tuple[int, int]:
    """Open what is new; returns (opened, closed). With `all_of_it` these are all that stand today, so open cases of the
    account that are not among them have been explained.

    What a person has closed stays closed; what closed itself is opened again when it is found again.
    """
    opened = await conn.fetch(
        "INSERT INTO cases AS c (id, provider, day, class, row_id, movement_id, order_id, amount_minor, currency, ours,"
        " theirs, next_step) SELECT id, provider, day, class, row_id, movement_id, order_id, amount_minor, currency,"
        " ours, theirs, next_step FROM json_to_recordset($1::json) AS f(id uuid, provider text, day date, class text,"
        " row_id uuid, movement_id uuid, order_id uuid, amount_minor bigint, currency text, ours jsonb, theirs jsonb,"
        " next_step text) ON CONFLICT (id) DO UPDATE SET state = 'open', closed_at = NULL, closed_by = '', note = '',"
        " ours = excluded.ours, theirs = excluded.theirs, amount_minor = excluded.amount_minor, day = excluded.day"
        " WHERE c.closed_by = $2 OR (c.state = 'open' AND c.theirs <> excluded.theirs) RETURNING id",
        db.rows([_case_row(one) for one in found]), rules.EXPLAINED,
    )  # fmt: skip
    if not all_of_it:
        return len(opened), 0
    closed = await conn.fetch(
        "UPDATE cases SET state = 'closed', closed_at = clock_timestamp(), closed_by = $3, note = 'it was explained'"
        f" WHERE provider = $1 AND state = 'open' AND class IN {_SELF_CLOSING} AND id <> ALL($2)"
        " AND NOT (class IN ('amount', 'currency') AND movement_id IS NULL) RETURNING id",
        provider, [one.id for one in found], rules.EXPLAINED,
    )  # fmt: skip
    return len(opened), len(closed)


def _case_row(found: Finding) -> Mapping[str, Any]:
    of_order = found.kind == "duplicate_capture" and not found.theirs
    return {
        "id": found.id, "provider": found.provider, "day": found.day, "class": found.kind,
        "row_id": found.theirs[0].id if found.theirs else None,
        "movement_id": found.ours[-1].id if found.ours and found.kind != "duplicate_capture" else None,
        "order_id": found.ours[-1].order_id if of_order else None,
        "amount_minor": found.amount_minor, "currency": found.currency,
        "ours": found.ours, "theirs": found.theirs, "next_step": rules.NEXT_STEP[found.kind],
    }  # fmt: skip


async def lock_case(conn: Conn, case_id: UUID) -> Case | None:
    record = await conn.fetchrow(f"SELECT {_CASE} FROM cases WHERE id = $1 FOR UPDATE", case_id)
    return None if record is None else _case(record)


async def close_case(conn: Conn, case_id: UUID, by: str, note: str) -> None:
    """Closed by a person, for good: what it was about is not asked for again, and is matched should it come."""
    await conn.execute(
        "WITH c AS (UPDATE cases SET state = 'closed', closed_at = clock_timestamp(), closed_by = $2, note = $3"
        " WHERE id = $1 RETURNING class, row_id, movement_id), m AS (UPDATE movements SET waived = true FROM c"
        " WHERE movements.id = c.movement_id AND c.class <> 'fee' AND movements.row_id IS NULL)"
        " UPDATE settlement_rows SET waived = true FROM c WHERE settlement_rows.id = c.row_id AND c.class <> 'fee'"
        " AND settlement_rows.movement_id IS NULL",
        case_id, by, note,
    )  # fmt: skip


async def read_cases(
    state: str, provider: str, kind: str, before: tuple[dt.datetime, UUID] | None, limit: int
) -> tuple[Case, ...]:
    """Newest first; empty texts are any."""
    found = await DB.fetch(
        f"SELECT {_CASE} FROM cases WHERE state = $1 AND ($2 = '' OR provider = $2) AND ($3 = '' OR class = $3)"
        " AND ($4::timestamptz IS NULL OR (opened_at, id) < ($4, $5)) ORDER BY opened_at DESC, id DESC LIMIT $6",
        state, provider, kind, before[0] if before else None, before[1] if before else None, limit,
    )  # fmt: skip
    return tuple(_case(record) for record in found)


def _case(record: asyncpg.Record) -> Case:
    values = list(record)
    values[6], values[7] = _OURS.decode(values[6]), _THEIRS.decode(values[7])
    return Case(*values)


# --- reports ---


async def read_report(provider: str, zone: str, day: dt.date) -> Report:
    """One day of an account, as it stands now."""
    async with DB.connection() as conn:
        read = await conn.fetchrow("SELECT rows, last_read FROM days WHERE provider = $1 AND day = $2", provider, day)
        found = await conn.fetch(
            "SELECT 'matched' AS class, currency, count(*) AS n, sum(amount_minor)::text AS total, 0 AS open"
            " FROM settlement_rows WHERE provider = $1 AND sold_on = $2 AND movement_id IS NOT NULL GROUP BY currency"
            " UNION ALL SELECT 'waiting', currency, count(*), sum(amount_minor)::text, 0 FROM movements m"
            " WHERE provider = $1 AND row_id IS NULL AND NOT waived AND moved_at >= $2::date::timestamp AT TIME ZONE $3"
            " AND moved_at < ($2::date + 1)::timestamp AT TIME ZONE $3 AND NOT EXISTS (SELECT FROM cases c"
            " WHERE c.movement_id = m.id AND c.class <> 'fee') GROUP BY currency"
            " UNION ALL SELECT class, currency, count(*), sum(amount_minor)::text,"
            " count(*) FILTER (WHERE state = 'open') FROM cases WHERE provider = $1 AND day = $2"
            " AND closed_by <> $4 GROUP BY class, currency ORDER BY 1, 2",
            provider, day, zone, rules.EXPLAINED,
        )  # fmt: skip
    figures = tuple(Figure(r["class"], r["currency"], r["n"], int(r["total"]), r["open"]) for r in found)
    return Report(provider, day, read["rows"] if read else None, read["last_read"] if read else None, figures)


async def read_latest_days(provider: str, limit: int) -> list[tuple[str, dt.date]]:
    """The newest days that were read, of one account or (empty) of all."""
    found = await DB.fetch(
        "SELECT provider, day FROM days WHERE $1 = '' OR provider = $1 ORDER BY day DESC, provider LIMIT $2",
        provider, limit,
    )  # fmt: skip
    return [(record["provider"], record["day"]) for record in found]
