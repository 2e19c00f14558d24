"""What admins see of a service's events and do to them over HTTP, and that nobody else can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from doorbuster.engines.event_log import partition_of

DESK = "/api/v1/price/event"
SOURCE = "item.catalog"
pytestmark = pytest.mark.one_process


@pytest.fixture
async def price(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "price"})
    yield connection
    await connection.execute("DELETE FROM dead_letter")
    await connection.close()


@pytest.fixture
def admin(api: Any) -> Any:
    return api.as_user(roles="admin")


async def set_aside(price: asyncpg.Connection[asyncpg.Record], key: str, first: int, events: int = 2) -> None:
    """Events whose payload price cannot read, given up."""
    for seq in range(first, first + events):
        await price.execute(
            "INSERT INTO dead_letter (source, seq, partition, key, id, type, version, aggregate_version, occurred_at,"
            " payload, error, tries) VALUES ($1, $2, $3, $4, $5, 'ItemChanged', 1, 1, now(), '{}', 'no good', 8)",
            *(SOURCE, seq, partition_of(key), key, uuid4()),
        )


@pytest.mark.parametrize("roles", ["shopper", "merchant"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/dead-letter", None),
        ("GET", f"/dead-letter/1?source={SOURCE}", None),
        ("POST", "/dead-letter/requeue", {"source": SOURCE, "key": "k", "note": "n"}),
        ("POST", "/dead-letter/drop", {"source": SOURCE, "key": "k", "note": "n"}),
        ("POST", "/replay", {"source": SOURCE, "note": "n"}),
    ],
)
async def test_only_admins_are_served(api: Any, roles: str, method: str, path: str, body: object) -> None:
    answer = await api.as_user(roles=roles).request(method, DESK + path, **({"json": body} if body else {}))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_dead_letter_is_listed_shown_requeued_and_dropped(
    admin: Any, price: asyncpg.Connection[asyncpg.Record]
) -> None:
    key = str(uuid4())
    await set_aside(price, key, 9_000_001)
    listed = (await admin.get(f"{DESK}/dead-letter")).json()["data"]
    assert [(one["seq"], one["key"], one["error"]) for one in listed] == [
        (9_000_001, key, "no good"),
        (9_000_002, key, "no good"),
    ]
    shown = await admin.get(f"{DESK}/dead-letter/9000001", params={"source": SOURCE})
    assert (shown.status_code, shown.json()["payload"]) == (200, "{}")
    status = (await admin.get(DESK)).json()["data"]
    assert [(one["source"], one["dead_letters"]) for one in status] == [(SOURCE, 2)]

    again = await admin.post(f"{DESK}/dead-letter/requeue", json={"source": SOURCE, "key": key, "note": "try"})
    assert (again.status_code, again.json()) == (200, {"events": 2})

    async with asyncio.timeout(10):
        # A worker tries it within a third of a lease, and finds it as bad as before.
        while not await price.fetchval("SELECT bool_or(error LIKE 'ValidationError%') FROM dead_letter"):
            await asyncio.sleep(0.1)
    wish = {"source": SOURCE, "key": key, "whole_key": True, "note": "of no use"}
    assert (await admin.post(f"{DESK}/dead-letter/drop", json=wish)).json() == {"events": 2}
    audit = await price.fetch("SELECT action, seq, note, actor FROM event_audit WHERE key = $1 ORDER BY at", key)
    assert [(row["action"], row["seq"], row["note"]) for row in audit] == [
        ("requeue", 9_000_001, "try"),
        ("drop", 9_000_001, "of no use"),
        ("drop", 9_000_002, "of no use"),
    ]
    assert UUID(audit[0]["actor"])


async def test_a_replay_over_http_begins_again_and_is_written_down(
    admin: Any, price: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await price.fetchval("SELECT coalesce(sum(epoch), 0) FROM event_cursor")
    answer = await admin.post(f"{DESK}/replay", json={"source": SOURCE, "note": "a fixed handler"})
    assert (answer.status_code, answer.json()["from_seq"]) == (200, 1)
    assert await price.fetchval("SELECT sum(epoch) FROM event_cursor") >= before + 16
    async with asyncio.timeout(20):
        while any(one["waiting"] for one in (await admin.get(DESK)).json()["data"]):
            await asyncio.sleep(0.1)
    later = {"source": SOURCE, "since": "2999-01-01T00:00:00Z", "note": "n"}
    none = await admin.post(f"{DESK}/replay", json=later)
    assert (none.status_code, none.json()["facts"]) == (200, 0)
    notes = await price.fetchval(
        "SELECT note FROM event_audit WHERE action = 'replay' ORDER BY at DESC OFFSET 1 LIMIT 1"
    )
    assert notes == "from the beginning. a fixed handler"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/dead-letter/requeue", {"source": SOURCE, "key": "nothing", "note": "n"}, (404, "no_such_dead_letter")),
        ("/dead-letter/drop", {"source": SOURCE, "key": "nothing", "note": "n"}, (404, "no_such_dead_letter")),
        ("/dead-letter/drop", {"source": "item.stock", "key": "k", "note": "n"}, (400, "invalid_request")),
        ("/replay", {"source": "commerce.order", "note": "n"}, (400, "invalid_request")),
        ("/replay", {"source": SOURCE, "since": "2026-01-01T00:00:00", "note": "n"}, (400, "invalid_request")),
        ("/replay", {"source": SOURCE, "form": "x", "note": "n"}, (400, "invalid_request")),
        ("/dead-letter/drop", {"source": SOURCE, "key": "\x00", "note": "n"}, (400, "invalid_request")),
        ("/dead-letter/drop", {"source": SOURCE, "key": "k"}, (400, "invalid_request")),
    ],
)
async def test_what_cannot_be_done_says_why(
    admin: Any, path: str, body: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = await admin.post(DESK + path, json=body)
    assert (answer.status_code, answer.json()["code"]) == expected


@pytest.mark.parametrize("seq", ["1", "99999999999999999999999", "-1"])
async def test_an_event_that_is_not_set_aside_is_not_found(admin: Any, seq: str) -> None:
    answer = await admin.get(f"{DESK}/dead-letter/{seq}", params={"source": SOURCE})
    assert answer.status_code == 404


@pytest.mark.parametrize("domain", ["order", "deal"])
async def test_every_service_that_listens_has_a_desk(admin: Any, domain: str) -> None:
    answer = await admin.get(f"/api/v1/{domain}/event")
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
