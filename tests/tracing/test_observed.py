"""What is seen of a shop is held against the map: nothing is wrong with ours, and what is planted is found."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from doorbuster import map
from doorbuster.drills.shopping import Shopped, go_shopping
from doorbuster.drills.span_receiver import Seen, receiver
from doorbuster.surfaces.cli import main, observed
from doorbuster.surfaces.cli.observed import judge
from tests.tracing.conftest import Traced

PLANTED_CALL = """
import asyncio, sys
from uuid import uuid4
from doorbuster.domains.commerce import order
from doorbuster.platform import settings, tracing
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import NotFound

settings.load()
tracing.start(sys.argv[1], "planted", 100.0)
upstream = {"__name__": "doorbuster.domains.item.price.planted", "order": order, "SYSTEM": SYSTEM, "uuid4": uuid4}
exec("async def peek():\\n    return await order.get_order(SYSTEM, uuid4())", upstream)
try:
    asyncio.run(upstream["peek"]())
except NotFound:
    print("refused as asked")
finally:
    tracing.stop()
"""
"""A process in which a module of item.price really calls a verb of commerce.order, which stands downstream of it."""

RARE = ("commerce.order hears commerce.payment.PaymentReopened",)
"""What no order that goes well is about: a bank takes a transfer back."""


def called(caller: str, callee: str, verb: str = "do", kind: str = "internal", trace: str = "a" * 32) -> Seen:
    attributes: dict[str, object] = {"door.caller": caller, "door.callee": callee, "rpc.method": f"{callee}.{verb}"}
    return Seen(trace, "1" * 16, "", f"{callee}.{verb}", kind, "doorbuster-shop", attributes, (), False)


def heard(consumer: str, source: str, *types: str) -> Seen:
    attributes: dict[str, object] = {"door.consumer": consumer, "door.source": source, "door.types": list(types)}
    return Seen("b" * 32, "2" * 16, "", "handle", "consumer", "doorbuster-shop", attributes, (), False)


def request(route: str, trace: str = "a" * 32) -> Seen:
    return Seen(trace, "3" * 16, "", "POST", "server", "doorbuster-shop", {"http.route": route}, (), False)


def test_what_the_map_allows_is_no_breach_and_calls_are_counted_per_order() -> None:
    spans = [
        request("/api/v1/order"),
        *[called("commerce.order", "item.stock", verb) for verb in ("reserve", "claim", "claim")],
        called("commerce.order", "item.stock", "made_between", trace="c" * 32),
        called("commerce.order", "item.stock", "reserve", kind="server"),
        called("commerce.order", "commerce.order", "get_order"),
        called("", "commerce.order", "sweep"),
        heard("commerce.order", "commerce.payment", "PaymentSettled"),
    ]
    found = judge(spans, orders=2)
    assert found.breaches == ()
    (call,) = found.calls
    assert (call.caller, call.callee, call.calls, call.per_order) == ("commerce.order", "item.stock", 4, 1.5)
    assert call.verbs == ("item.stock.claim", "item.stock.made_between", "item.stock.reserve")


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (called("item.stock", "commerce.order"), "item.stock called commerce.order.do, which the map forbids"),
        (called("item.price", "item.stock"), "item.price called item.stock.do, which the map forbids"),
        (called("search.query", "review.rating"), "search.query called review.rating.do, which the map forbids"),
        (called("nobody.knows", "item.stock"), "nobody.knows called item.stock.do, which the map forbids"),
        (called("item.stock", "commerce.order", kind="client"), "item.stock called"),
        (heard("commerce.order", "item.stock", "StockChanged"), "commerce.order heard item.stock.StockChanged"),
        (heard("item.price", "item.catalog", "ItemChanged", "ItemGone"), "item.price heard item.catalog.ItemGone"),
        (heard("who.else", "item.catalog", "ItemChanged"), "who.else heard item.catalog.ItemChanged"),
    ],
)
def test_a_planted_breach_is_found(planted: Seen, told: str) -> None:
    (breach,) = judge([request("/api/v1/order"), called("commerce.order", "item.stock"), planted], 1).breaches
    assert breach.startswith(told)


def test_what_is_declared_and_was_not_seen_is_listed() -> None:
    found = judge([heard("item.price", "item.catalog", "ItemChanged")], 1)
    declared = {f"{domain.id} hears {fact}" for domain in map.BUILT for fact in domain.hears}
    assert set(found.unheard) == declared - {"item.price hears item.catalog.ItemChanged"}
    assert "commerce.order -> item.stock" in found.uncalled
    assert "item.stock -> commerce.order" not in found.uncalled


async def test_a_real_shop_keeps_to_the_map(traced: Traced) -> None:
    await go_shopping(traced.shop, 12)

    calls = {("commerce.order", name) for name in ("item.stock", "item.price", "commerce.payment")}

    def enough(spans: list[Seen]) -> bool:
        found = judge(spans, 12)
        return found.unheard == RARE and calls <= {(call.caller, call.callee) for call in found.calls}

    assert judge(await asyncio.to_thread(traced.collector.wait_for, enough, 15.0), 12).breaches == ()


def test_a_call_that_is_planted_in_a_running_process_is_found(traced: Traced) -> None:
    environment = {"DOORBUSTER_SETTINGS": str(traced.shop.data / "settings.json"), "PYTHONPATH": ":".join(sys.path)}
    with receiver() as collector:
        done = subprocess.run(
            [sys.executable, "-c", PLANTED_CALL, collector.endpoint],
            capture_output=True, text=True, timeout=60, check=True, env=environment,
        )  # fmt: skip
        assert "refused as asked" in done.stdout
        found = judge(collector.spans(), 1)
    assert found.breaches == ("item.price called commerce.order.get_order, which the map forbids",)


def test_a_breach_is_the_commands_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    breach = judge([called("item.stock", "commerce.order")], 1)
    monkeypatch.setattr(observed, "watch", lambda orders, say: (breach, Shopped((), 0, 0)))
    done = CliRunner().invoke(main.app, ["map", "--observed"])
    assert done.exit_code == 1
    assert "item.stock called commerce.order.do" in done.output
    assert CliRunner().invoke(main.app, ["map"]).exit_code == 0


def test_the_command_tells_calls_per_order_and_finds_no_breach() -> None:
    command = [sys.executable, "-m", "doorbuster.surfaces.cli.main", "map", "--observed", "--orders", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["orders"], found["breaches"], found["unheard"]) == (8, [], list(RARE))
    per_order = {(call["caller"], call["callee"]): call["per_order"] for call in found["calls"]}
    assert per_order["commerce.order", "item.price"] == 1.0
    assert per_order["commerce.order", "item.stock"] > 1.5
