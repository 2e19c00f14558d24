"""Spans: free while off, whole while on, silent about what customers sent, and harmless when nobody takes them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import timeit
from collections.abc import Iterator, Sequence

import pytest

from doorbuster.drills.span_receiver import Received, Seen, receiver
from doorbuster.platform import span_export, sql_spans, tracing
from doorbuster.platform.batching import Batcher, cause_of
from doorbuster.platform.errors import NotFound

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
NOT_KEPT = "00-2cf7651916cd43dd8448eb211c80319c-d7ad6b7169203331-00"


@pytest.fixture
def collector() -> Iterator[Received]:
    """Tracing is on in this process, and everything arrives here."""
    with receiver() as received:
        tracing.start(received.endpoint, "test", 100.0)
        try:
            yield received
        finally:
            tracing.stop()


def sent(received: Received) -> dict[str, Seen]:
    """Stop tracing, which sends everything; the spans by name."""
    tracing.stop()
    return {span.name: span for span in received.spans()}


def dropped(why: str) -> float:
    return span_export.DROPPED.labels(why)._value.get()  # type: ignore[no-any-return]


def test_a_shop_without_a_collector_does_not_load_the_sdk() -> None:
    code = "import sys, doorbuster.app; assert not [m for m in sys.modules if m.startswith('opentelemetry')], 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_span_that_is_off_is_one_object_and_costs_less_than_a_microsecond() -> None:
    assert tracing.span("a") is tracing.begin("b") is tracing.joined("c", tracing.INTERNAL, [KEPT]) is tracing.NOTHING
    assert tracing.current_traceparent() == ""

    def spanned() -> None:
        with tracing.span("a"):
            pass

    assert min(timeit.repeat(spanned, number=20_000, repeat=9)) / 20_000 < 1e-6


def test_spans_nest_and_go_on_with_the_trace_they_were_told(collector: Received) -> None:
    with tracing.begin("outer", tracing.SERVER, KEPT):
        inside = tracing.current_traceparent()
        with tracing.span("inner", attributes={"door.x": 1}):
            pass
    spans = sent(collector)
    assert spans["outer"].trace_id == spans["inner"].trace_id == KEPT[3:35]
    assert (spans["outer"].parent_id, spans["outer"].kind) == (KEPT[36:52], "server")
    assert spans["inner"].parent_id == spans["outer"].span_id == inside[36:52]
    assert spans["inner"].attributes == {"door.x": 1}
    assert spans["inner"].service == "doorbuster-test"


def test_what_is_not_kept_outside_makes_no_span_inside_but_travels_on(collector: Received) -> None:
    with tracing.continued(NOT_KEPT), tracing.span("never"):
        assert tracing.current_traceparent() == NOT_KEPT
    with tracing.begin("nor this", tracing.SERVER, NOT_KEPT), tracing.span("nor that"):
        assert tracing.current_traceparent()[:35] == NOT_KEPT[:35]
        assert tracing.current_traceparent().endswith("-00")
        assert tracing.trace_id_of(tracing.current_traceparent()) is None
    assert tracing.joined("nor these", tracing.INTERNAL, [NOT_KEPT]) is tracing.NOTHING
    assert sent(collector) == {}


def test_a_part_of_nothing_is_nothing(collector: Received) -> None:
    with tracing.span("a statement of a sweeper"):
        pass
    assert sent(collector) == {}


@pytest.mark.parametrize("nonsense", ["", "x", "00-zz-zz-01", KEPT[:-1], "ff" + KEPT[2:], "00-" + "0" * 32 + KEPT[35:]])
def test_a_traceparent_that_is_none_begins_a_trace(collector: Received, nonsense: str) -> None:
    with tracing.begin("alone", tracing.SERVER, nonsense):
        pass
    span = sent(collector)["alone"]
    assert span.parent_id == ""
    assert span.trace_id not in (KEPT[3:35], "0" * 32)


def test_work_for_several_traces_is_part_of_the_first_kept_and_linked_with_all(collector: Received) -> None:
    with tracing.joined("batch", tracing.INTERNAL, ["", NOT_KEPT, KEPT, OTHER, KEPT]):
        pass
    span = sent(collector)["batch"]
    assert (span.trace_id, span.parent_id) == (KEPT[3:35], KEPT[36:52])
    assert span.links == (KEPT[3:35], OTHER[3:35])


def test_an_error_is_told_by_its_class_and_never_by_its_words(collector: Received) -> None:
    with pytest.raises(ValueError), tracing.begin("bug"):
        raise ValueError("tok_visa_s3cret")
    with pytest.raises(NotFound), tracing.begin("no"):
        raise NotFound("There is no s3cret")
    spans = sent(collector)
    assert (spans["bug"].is_failed, spans["bug"].attributes) == (True, {"error.type": "ValueError"})
    assert (spans["no"].is_failed, spans["no"].attributes) == (False, {"door.refusal": "not_found"})
    assert b"s3cret" not in collector.raw()


async def test_a_call_says_who_called_and_an_idle_sweeper_says_nothing(collector: Received) -> None:
    async def work() -> int:
        return 7

    order = "doorbuster.domains.commerce.order.process"
    assert await tracing.call("item.stock.reserve", order, work()) == 7
    assert await tracing.call("commerce.order.sweep", "doorbuster.app", work()) == 7
    assert await tracing.call("commerce.order.get_order", order, work()) == 7
    spans = sent(collector)
    assert spans.keys() == {"item.stock.reserve"}
    attributes = spans["item.stock.reserve"].attributes
    assert (attributes["door.caller"], attributes["door.callee"]) == ("commerce.order", "item.stock")


async def test_each_request_of_a_batch_keeps_its_own_cause(collector: Received) -> None:
    async def run(requests: Sequence[str]) -> Sequence[str]:
        with tracing.span("SQL"):
            await asyncio.sleep(0.01)
        return [cause_of(request) for request in requests]

    batcher: Batcher[str, str] = Batcher("test", run)

    async def one(number: int) -> tuple[str, str]:
        with tracing.begin(f"request {number}"):
            return tracing.current_traceparent(), await batcher.submit(f"wish {number}")

    async def untraced() -> tuple[str, str]:
        return "", await batcher.submit("wish of a sweeper")

    pairs = await asyncio.gather(*(one(number) for number in range(20)), untraced())
    for mine, cause in pairs:
        assert cause[:35] == mine[:35]
    assert pairs[-1][1] == ""
    assert len({cause for _, cause in pairs}) == 21
    tracing.stop()
    spans = collector.spans()
    waits = {span.span_id: span.trace_id for span in spans if span.name == "wait for test"}
    batches = [span for span in spans if span.name == "batch of test"]
    assert {f"00-{trace}-{span}-01" for span, trace in waits.items()} == {cause for _, cause in pairs if cause}
    assert {trace for batch in batches for trace in batch.links} == set(waits.values())
    assert all(batch.parent_id in waits for batch in batches)
    assert {span.parent_id for span in spans if span.name == "SQL"} == {batch.span_id for batch in batches}


def test_a_collector_that_is_away_costs_nothing_but_counted_spans() -> None:
    before = dropped("collector away") + dropped("queue full")
    tracing.start("http://127.0.0.1:9", "test", 100.0)
    count = 2 * span_export.QUEUE + 1_000
    took = []
    for _ in range(count):
        began = time.perf_counter()
        with tracing.begin("lost"):
            pass
        took.append(time.perf_counter() - began)
    began = time.monotonic()
    tracing.stop()
    # One wait for the collector alone would be 2 s. (The very slowest are the garbage collector's.)
    assert sorted(took)[-10] < 0.25, sorted(took)[-10:]
    assert time.monotonic() - began < 8
    assert dropped("collector away") + dropped("queue full") - before == count


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("BEGIN", "BEGIN"),
        ("SELECT a, b FROM orders o WHERE o.id = $1", "SELECT orders"),
        ("SELECT * FROM lock_orders($1)", "SELECT lock_orders"),
        ('SELECT seq FROM "order".outbox WHERE seq > $1', "SELECT order.outbox"),
        ("UPDATE payment p SET state = n.state FROM json_to_recordset($2) AS n", "UPDATE payment"),
        ("WITH n AS (SELECT * FROM json_to_recordset($1)), m AS (INSERT INTO orders (id) SELECT 1) SELECT id FROM m",
         "INSERT orders"),
        ("SAVEPOINT one", "SAVEPOINT"),
    ],
)  # fmt: skip
def test_a_statement_is_told_by_what_it_does_to_which_table(query: str, told: str) -> None:
    assert sql_spans.summary(query) == told
