"""What all workers share, in the database of the domain that pays: rules, counts, circuits, permits to probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec

from doorbuster.engines.payment_router.health import Circuit, Counts, Key
from doorbuster.engines.payment_router.keeper import Answers, Snapshot
from doorbuster.engines.payment_router.routing import RoutingRules
from doorbuster.platform import db

_KEPT_S = 120
_CIRCUIT = "provider, method, merchant, state, since, until, step, opened, forced, generation"

_TELL = """
INSERT INTO provider_answers (provider, method, merchant, generation, second, good, failed)
SELECT provider, method, merchant, generation, second, good, failed
  FROM json_to_recordset($1::json) AS n(provider text, method text, merchant text, generation bigint, second bigint,
       good bigint, failed bigint)
 ORDER BY provider, method, merchant, generation, second
ON CONFLICT (provider, method, merchant, generation, second)
DO UPDATE SET good = provider_answers.good + excluded.good, failed = provider_answers.failed + excluded.failed
RETURNING 1
"""

_LOOK = """
SELECT json_build_object(
    'now', extract(epoch FROM clock_timestamp())::float8,
    'circuits', coalesce((SELECT json_agg(c) FROM provider_circuit c), '[]'),
    'answers', coalesce((SELECT json_agg(a) FROM (
        SELECT a.provider, a.method, a.merchant, a.second, a.good, a.failed FROM provider_answers a
          LEFT JOIN provider_circuit c USING (provider, method, merchant)
         WHERE a.generation = coalesce(c.generation, 0)
           AND (coalesce(c.state, 'closed') <> 'closed' OR a.second > extract(epoch FROM clock_timestamp()) - $1)) a),
        '[]'),
    'rules', (SELECT document FROM routing_rules ORDER BY version DESC LIMIT 1))::text
"""


class _Row(msgspec.Struct, frozen=True):
    provider: str
    method: str
    merchant: str

    @property
    def key(self) -> Key:
        return Key(self.provider, self.method, self.merchant)


class _Answers(_Row, frozen=True):
    second: int
    good: int
    failed: int


class _Known(msgspec.Struct, frozen=True):
    now: float
    circuits: list[dict[str, Any]]
    answers: list[_Answers]
    rules: RoutingRules | None


class SharedDatabase:
    """Guards nothing but the name of the database: all state is in it (`keeper.Shared`, and what operators do)."""

    def __init__(self, database: db.Database) -> None:
        self._db = database

    async def exchange(self, answers: Answers, window_s: int) -> Snapshot:
        """Two short statements. A connection cut in the first may count some answers twice, or not: an estimate is
        none the worse for it."""
        if answers:
            await self._db.write(_TELL, db.rows([_told(*bucket, counts) for bucket, counts in answers.items()]))
        known = msgspec.json.decode(str(await self._value(_LOOK, float(window_s))), type=_Known)
        counts: dict[Key, dict[int, Counts]] = {}
        for row in known.answers:
            counts.setdefault(row.key, {})[row.second] = Counts(row.good, row.failed)
        circuits = {msgspec.convert(row, Key): msgspec.convert(row, Circuit) for row in known.circuits}
        return Snapshot(known.now, circuits, counts, known.rules)

    async def change(self, key: Key, before: Circuit, after: Circuit) -> bool:
        """Put in place of what was there, if that still stands. What an operator forced meanwhile stays forced."""
        return bool(
            await self._db.write(
                f"INSERT INTO provider_circuit AS c ({_CIRCUIT}) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10"
                " ON CONFLICT (provider, method, merchant) DO UPDATE SET state = excluded.state,"
                " since = excluded.since, until = excluded.until, step = excluded.step, opened = excluded.opened,"
                " generation = excluded.generation WHERE c.generation = $11 RETURNING 1",
                key.provider, key.method, key.merchant, after.state, after.since, after.until, after.step, after.opened,
                after.forced, after.generation, before.generation,
            )
        )  # fmt: skip

    async def take_probe(self, key: Key, most: int, lease_s: float) -> bool:
        """At most `most` in all workers together."""
        rows = await self._db.write(
            "SELECT take_probe($1, $2, $3, $4, $5)", key.provider, key.method, key.merchant, most, lease_s
        )
        return rows[0][0] is not None

    async def lock_and_end_probe(self, key: Key) -> None:
        """Which of the permits is given back does not matter: they are alike."""
        await self._db.write(
            "DELETE FROM provider_probe WHERE id = (SELECT id FROM provider_probe"
            " WHERE provider = $1 AND method = $2 AND merchant = $3 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
            " RETURNING 1",
            key.provider,
            key.method,
            key.merchant,
        )

    async def force(self, key: Key, forced: str) -> None:
        """What an operator says of a provider: `open`, `closed`, or nothing any more. It holds at once and for all."""
        await self._db.write(
            "INSERT INTO provider_circuit AS c (provider, method, merchant, state, since, until, step, opened, forced,"
            " generation) VALUES ($1, $2, $3, 'closed', 0, 0, 0, 0, $4, 0)"
            " ON CONFLICT (provider, method, merchant) DO UPDATE SET forced = excluded.forced RETURNING 1",
            key.provider,
            key.method,
            key.merchant,
            forced,
        )

    async def forget(self) -> int:
        """Remove counts that no window holds any more."""
        old = "DELETE FROM provider_answers WHERE second < extract(epoch FROM clock_timestamp()) - $1 RETURNING 1"
        return len(await self._db.write(old, _KEPT_S))

    async def read_rules(self, version: int | None = None) -> RoutingRules | None:
        """The rules in force, or those of a version."""
        document = await self._value(
            "SELECT document::text FROM routing_rules WHERE $1::bigint IS NULL OR version = $1"
            " ORDER BY version DESC LIMIT 1",
            version,
        )
        return None if document is None else msgspec.json.decode(str(document), type=RoutingRules)

    async def write_rules(self, rules: RoutingRules, actor: str, note: str) -> bool:
        """Put them in force as the next version; False when that version is there already."""
        rows = await self._db.write(
            "INSERT INTO routing_rules (version, document, made_by, note) SELECT $1, $2::jsonb, $3, $4"
            " WHERE $1 = 1 + coalesce((SELECT max(version) FROM routing_rules), 0)"
            " ON CONFLICT DO NOTHING RETURNING version",
            rules.version,
            msgspec.json.encode(rules).decode(),
            actor,
            note,
        )
        return bool(rows)

    async def _value(self, query: str, *arguments: object) -> object:
        rows: list[asyncpg.Record] = await self._db.fetch(query, *arguments)
        return rows[0][0] if rows else None


def _told(key: Key, generation: int, second: int, counts: Counts) -> Mapping[str, object]:
    return {
        "provider": key.provider, "method": key.method, "merchant": key.merchant, "generation": generation,
        "second": second, "good": counts.good, "failed": counts.failed,
    }  # fmt: skip
