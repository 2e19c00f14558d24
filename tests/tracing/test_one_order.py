"""One order is one trace, from the edge to whoever heard of it, and nothing a customer sent is in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from doorbuster import client
from doorbuster.drills.shopping import go_shopping
from doorbuster.drills.span_receiver import Seen
from doorbuster.drills.temporary_shop import DrilledShop, free_port, temporary_shop
from doorbuster.platform import tls
from tests.tracing.conftest import Traced

ARRIVES_S = 15.0
"""The edge sends what it has every 5 s, a worker every second."""
EDGE = "doorbuster-edge"
CARD = "tok_visa_s3cret"


def shopper(shop: DrilledShop) -> httpx.AsyncClient:
    token = client.token(client.read_settings(shop.data), "shopper")
    context = tls.client_context(shop.as_client().authority)
    return httpx.AsyncClient(
        base_url=shop.url, verify=context, timeout=30, headers={"authorization": f"Bearer {token}"}
    )


async def all_heard(shop: DrilledShop) -> None:
    """Until the orders' consumer waits for nothing: what it hears next it hears alone, as a child of one trace, not
    among others in a page that only links to each of them."""
    token = client.token(client.read_settings(shop.data), "admin")
    async with shopper(shop) as web, asyncio.timeout(ARRIVES_S):
        while True:
            told = await web.get("/api/v1/order/event", headers={"authorization": f"Bearer {token}"})
            lags = {lag["source"]: lag["waiting"] for lag in told.raise_for_status().json()["data"]}
            if lags["commerce.payment"] == 0:
                return
            await asyncio.sleep(0.05)


async def rows(shop: DrilledShop, query: str, *args: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(shop.dsn)
    try:
        return list(await connection.fetch(query, *args))
    finally:
        await connection.close()


async def on_sale(shop: DrilledShop) -> str:
    """An option with stock; the few shoppers of `go_shopping` leave plenty."""
    await go_shopping(shop, 2)
    found = await rows(
        shop, "SELECT option_id FROM stock.option_stock ORDER BY on_hand - reserved - allotted DESC LIMIT 1"
    )
    return str(found[0][0])


async def arrived(traced: Traced, enough: Callable[[list[Seen]], bool]) -> list[Seen]:
    return await asyncio.to_thread(traced.collector.wait_for, enough, ARRIVES_S)


def whole(spans: list[Seen]) -> bool:
    """Whether all of an order's trace has come: spans are sent as they end, and a child may end before its parent."""
    ids = {span.span_id for span in spans}
    parents_there = all(span.parent_id in ids for span in spans if span.parent_id)
    names = {"POST /api/v1/order", "handle commerce.payment in commerce.order", "COMMIT"}
    return parents_there and names <= {span.name for span in spans} and any(span.service == EDGE for span in spans)


async def test_an_orders_spans_are_one_trace_from_the_edge_to_the_consumer(traced: Traced) -> None:
    option = await on_sale(traced.shop)
    await all_heard(traced.shop)
    async with shopper(traced.shop) as web:
        body = {
            "lines": [{"option_id": option, "quantity": 1}],
            "payment": {"method": "card", "instrument": "tok_visa"},
        }
        placed = await web.post("/api/v1/order", json=body, headers={"idempotency-key": "one order"})
        assert placed.status_code == 201, placed.text
        steps = (await web.get(placed.headers["location"] + "/timeline")).json()["data"]
    assert [step["event"] for step in steps] == ["placed_paying", "captured", "claimed"]
    (trace_id,) = {step["trace_id"] for step in steps}
    spans = await arrived(traced, lambda found: whole([span for span in found if span.trace_id == trace_id]))
    mine = [span for span in spans if span.trace_id == trace_id]
    by_id = {span.span_id: span for span in mine}
    (first,) = [span for span in mine if not span.parent_id]
    assert (first.service, first.kind, first.name) == (EDGE, "server", "POST /api/v1/order")

    def road(span: Seen) -> list[str]:
        return [*(road(by_id[span.parent_id]) if span.parent_id else []), span.name]

    def named(name: str) -> Seen:
        return next(span for span in mine if span.name == name)

    start = ["POST /api/v1/order", "POST /api/v1/order", "commerce.order.place"]
    reserve = [*start, "item.stock.reserve", "wait for item.stock", "batch of item.stock"]
    assert road(named("SELECT lock_books")) == [*reserve, "SELECT lock_books"]
    assert road(named("sandbox charge")) == [*start, "commerce.payment.charge", "sandbox charge"]
    settled = [*start, "commerce.payment.charge", "wait for payment.settle"]
    heard = named("handle commerce.payment in commerce.order")
    assert road(heard) == [*settled, heard.name]
    assert (heard.kind, heard.attributes["door.types"]) == ("consumer", ["PaymentSettled"])
    assert named("sandbox charge").attributes["door.psp.outcome"] == "succeeded"
    served = next(s for s in mine if s.service == "doorbuster-shop" and s.kind == "server")
    assert served.attributes["http.route"] == "/api/v1/order"
    assert served.attributes["http.response.status_code"] == 201
    assert served.attributes["door.request_id"] == placed.headers["x-request-id"]
    assert named("SELECT lock_books").attributes["db.namespace"] == "item.stock"


async def test_each_fact_carries_the_trace_of_its_own_request_though_many_share_a_commit(traced: Traced) -> None:
    shopped = await go_shopping(traced.shop, 24)
    ids = [UUID(order_id) for order_id in shopped.order_ids]
    query = 'SELECT order_id, trace_id FROM "order".transition WHERE order_id = ANY($1) AND version = 1'
    placing = {str(row[0]): row[1] for row in await rows(traced.shop, query, ids)}
    assert len(set(placing.values()) - {None}) == len(ids), "each order was placed in a trace of its own"
    query = "SELECT key, traceparent FROM \"order\".outbox WHERE key = ANY($1) AND type = 'OrderPlaced'"
    facts = {row[0]: row[1] for row in await rows(traced.shop, query, list(placing))}
    assert {key: traceparent[3:35] for key, traceparent in facts.items()} == placing
    query = (
        'SELECT f.traceparent, t.trace_id FROM payment.outbox f JOIN "order".transition t ON t.order_id::text = f.key'
        " WHERE f.key = ANY($1) AND t.event IN ('captured', 'declined') AND f.aggregate_version = 2"
    )
    settled = await rows(traced.shop, query, list(placing))
    assert len(settled) >= 16
    assert [row for row in settled if row[0][3:35] != row[1]] == []
    size = 'SELECT max(n) FROM (SELECT count(*) AS n FROM "order".outbox GROUP BY txid) AS batches'
    assert (await rows(traced.shop, size))[0][0] > 1, "no two orders shared a commit, so nothing was shown"
    traces = set(placing.values())
    names = "handle commerce.payment in commerce.order"
    await arrived(
        traced, lambda found: bool({t for s in found if s.name == names for t in (s.trace_id, *s.links)} & traces)
    )


async def test_nothing_a_customer_sent_is_ever_exported(traced: Traced) -> None:
    option = await on_sale(traced.shop)
    ship_to = {"name": "s3cret name", "line1": "s3cret street", "city": "x", "postal_code": "1", "country": "KR"}
    body = {
        "lines": [{"option_id": option, "quantity": 1}], "payment": {"method": "card", "instrument": CARD},
        "ship_to": ship_to,
    }  # fmt: skip
    headers = {"idempotency-key": "s3cret-key", "user-agent": "s3cret-agent", "x-forwarded-for": "s3cret"}
    async with shopper(traced.shop) as web:
        token = web.headers["authorization"].removeprefix("Bearer ")
        placed = await web.post("/api/v1/order?token=s3cret", json=body, headers=headers)
        assert placed.status_code == 201, placed.text
        await web.post("/api/v1/order", json={"lines": "s3cret"}, headers=headers)
        login = {"email": "s3cret@example.com", "password": "s3cret-password"}
        await web.post("/api/v1/account/login", json=login)
        await web.get("/api/v1/s3cret")
        last = (await web.get("/api/v1/account/me")).headers["x-request-id"]
    await arrived(
        traced, lambda found: {EDGE, "doorbuster-shop"}
        <= {s.service for s in found if s.attributes.get("door.request_id") == last},
    )  # fmt: skip
    raw = traced.collector.raw()
    assert b"s3cret" not in raw
    for part in token.split("."):
        assert part.encode() not in raw
    settings = client.read_settings(traced.shop.data)
    for login_of in settings.databases.values():
        assert login_of.password.encode() not in raw


async def test_what_the_sweeper_does_is_traced_by_itself_and_idle_rounds_are_not(traced: Traced) -> None:
    option = await on_sale(traced.shop)
    async with shopper(traced.shop) as web:
        placed = await web.post(
            "/api/v1/order", json={"lines": [{"option_id": option, "quantity": 1}]},
            headers={"idempotency-key": "left alone"},
        )  # fmt: skip
        order_id = UUID(placed.json()["id"])
        overdue = "UPDATE \"order\".orders SET pay_by = now() - interval '1 s', step_deadline = now() WHERE id = $1"
        await rows(traced.shop, overdue + " RETURNING id", order_id)
        async with asyncio.timeout(10):
            while (await web.get(f"/api/v1/order/{order_id}")).json()["state"] != "expired":
                await asyncio.sleep(0.1)
        steps = (await web.get(f"/api/v1/order/{order_id}/timeline")).json()["data"]
    assert steps[0]["trace_id"] and steps[-1]["trace_id"]
    assert steps[0]["trace_id"] != steps[-1]["trace_id"]
    spans = await arrived(traced, lambda found: "take up order" in {s.name for s in found})
    roots = {span.name for span in spans if not span.parent_id and span.service == "doorbuster-shop"}
    assert "commerce.order.sweep" not in roots and "commerce.payment.resolve" not in roots
    assert not [name for name in roots if name.startswith(("SELECT", "BEGIN", "UPDATE"))]


async def test_a_shop_whose_collector_is_away_sells_and_counts_what_it_lost() -> None:
    with temporary_shop(workers=1, overrides={"otlp_endpoint": "http://127.0.0.1:9"}) as shop:
        shopped = await go_shopping(shop, 20)
        assert (len(shopped.order_ids), shopped.paid) == (20, await _paid(shop))
        context = tls.client_context(shop.as_client().authority)
        token = client.token(client.read_settings(shop.data), "admin")
        async with httpx.AsyncClient(base_url=shop.url, verify=context, timeout=10) as web, asyncio.timeout(15):
            while True:
                said = (await web.get("/metrics", headers={"authorization": f"Bearer {token}"})).text
                lost = [float(line.split()[-1]) for line in said.splitlines() if "spans_dropped_total{" in line]
                if sum(lost) > 100:
                    break
                await asyncio.sleep(0.2)


async def _paid(shop: DrilledShop) -> int:
    query = "SELECT count(DISTINCT order_id) FROM \"order\".transition WHERE state = 'paid'"
    return int((await rows(shop, query))[0][0])


async def test_a_shop_without_a_collector_keeps_no_trace_ids() -> None:
    with temporary_shop(workers=1, overrides={}) as shop:
        await go_shopping(shop, 4)
        assert (await rows(shop, 'SELECT DISTINCT trace_id FROM "order".transition'))[0][0] is None
        assert (await rows(shop, 'SELECT DISTINCT traceparent FROM "order".outbox'))[0][0] is None


def test_a_shop_does_not_start_with_a_collector_it_can_not_send_to(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "doorbuster.surfaces.cli.main",
        "up",
        "--no-demo",
        "--data",
        str(tmp_path / "shop"),
    ]
    command += ["--port", str(free_port())]
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert "Spans can not be sent to 'https://collector:4318'" in done.stderr
