"""The real Envoy as the beginning of every trace: it draws, workers follow, and clients have no say."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from doorbuster.drills.span_receiver import receiver
from doorbuster.engines import edge
from doorbuster.engines.edge.tests.client import ask
from doorbuster.engines.edge.tests.conftest import model_in, open_shop

FORGED = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=s3cret",
    "baggage": "who=s3cret",
    "x-client-trace-id": "s3cret",
}
SECRETS = {"authorization": "Bearer s3cret", "user-agent": "s3cret", "host": "s3cret", "cookie": "a=s3cret"}
TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")
FLUSH_S = 8.0
"""Envoy sends what it has every 5 s."""


async def test_the_edge_begins_the_trace_and_nothing_a_client_wrote_leaves_it() -> None:
    with receiver() as collector:
        async with open_shop(otlp_endpoint=collector.endpoint) as shop:
            answer = await ask(shop.port, "GET", "/api/v1/catalog?token=s3cret", SECRETS | FORGED)
            nowhere = await ask(shop.port, "GET", "/s3cret", SECRETS)
            assert (answer.status, nowhere.status) == (200, 404)
            seen = shop.book.seen[-1]
            told = TRACEPARENT.fullmatch(seen.header("traceparent") or "")
            assert told is not None and told[1] not in FORGED["traceparent"] and told[3] == "01"
            assert not seen.header("tracestate") and not seen.header("baggage") and not seen.header("x-client-trace-id")
            names = {"GET /api/v1/catalog", "not found"}
            spans = await asyncio.to_thread(
                collector.wait_for, lambda found: names <= {span.name for span in found}, FLUSH_S
            )
        span = next(span for span in spans if span.trace_id == told[1])
        assert (span.span_id, span.kind, span.parent_id) == (told[2], "server", "")
        assert span.service == "doorbuster-edge"
        assert span.attributes["http.response.status_code"] == "200"
        assert span.attributes["door.request_id"] == answer.headers["x-request-id"]
        assert b"s3cret" not in collector.raw()


async def test_no_client_can_have_itself_traced_when_the_edge_draws_nobody() -> None:
    with receiver() as collector:
        async with open_shop(otlp_endpoint=collector.endpoint, trace_percent=0.0) as shop:
            await ask(shop.port, "GET", "/api/v1/catalog", FORGED | {"x-envoy-force-trace": "1"})
            told = TRACEPARENT.fullmatch(shop.book.seen[-1].header("traceparent") or "")
            assert told is not None and told[3] == "00"
            await asyncio.sleep(FLUSH_S - 2)
        assert collector.spans() == []


async def test_without_a_collector_the_edge_has_no_tracer_and_workers_see_no_traceparent(tmp_path: Path) -> None:
    files = edge.render(model_in(tmp_path))
    assert b"opentelemetry" not in b"".join(files.values())
    assert json.loads(files["bootstrap.json"])["static_resources"]["clusters"] == []
    async with open_shop() as shop:
        await ask(shop.port, "GET", "/api/v1/catalog", FORGED)
        seen = shop.book.seen[-1]
    assert [name for name, _ in seen.headers if name in FORGED] == []


async def test_a_collector_that_is_away_costs_the_edge_no_request() -> None:
    async with open_shop(otlp_endpoint="http://127.0.0.1:9") as shop:
        answers = await asyncio.gather(*(ask(shop.port, "GET", "/api/v1/catalog") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("endpoint", ["https://collector:4318", "collector:4318", "http://"])
def test_an_address_the_edge_can_not_send_to_is_refused(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(ValueError, match="sends spans to"):
        model_in(tmp_path, otlp_endpoint=endpoint)


async def test_envoy_takes_the_whole_configuration_with_its_tracer(tmp_path: Path) -> None:
    await edge.validate(model_in(tmp_path, otlp_endpoint="http://127.0.0.1:4318", trace_percent=12.5))
