"""Payment over HTTP: what customers see of theirs, and the operators' desk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.sessions import SHARED
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router.health import Key
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM

PAYMENT = "/api/v1/payment"
SOME = UUID(int=7)


@pytest.fixture(autouse=True)
async def _as_new(sandbox: Any) -> AsyncIterator[None]:
    await sandbox.faults()
    # Other tests of this worker have had it fail on purpose.
    await payment_router.close()
    for table in ("provider_answers", "provider_circuit"):
        await store.DB.write(f"DELETE FROM {table} WHERE provider = 'sandbox' RETURNING 1")
    yield
    await SHARED.force(Key("sandbox", "card"), "")
    await store.DB.write("DELETE FROM routing_rules RETURNING version")
    await payment_router.close()


@pytest.fixture
def admin(api: Any) -> Any:
    return api.as_user(roles="admin")


async def paid(customer_id: UUID | None = None) -> payment.Charge:
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), customer_id or ids.uuid7(), 700, "USD", "tok_visa", "h")
    await payment.charge(SYSTEM, wish)
    return wish


async def test_customers_see_their_own_payment_whole_and_no_others(api: Any, admin: Any) -> None:
    wish = await paid()
    mine = (await api.as_user(wish.customer_id).request("GET", f"{PAYMENT}/{wish.payment_id}")).json()
    assert (mine["state"], mine["amount_minor"], len(mine["attempts"])) == ("succeeded", 700, 1)
    assert (mine["attempts"][0]["provider"], mine["attempts"][0]["state"]) == ("sandbox", "succeeded")
    other = await api.as_user().request("GET", f"{PAYMENT}/{wish.payment_id}")
    assert (other.status_code, other.json()["code"]) == (404, "not_found")
    assert (await admin.request("GET", f"{PAYMENT}/{wish.payment_id}")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("GET", "/case"), ("POST", f"/case/{SOME}/settle"), ("GET", "/provider"),
        ("POST", "/provider/sandbox/force"), ("GET", "/routing"), ("PUT", "/routing"), ("POST", "/routing/try"),
        ("GET", f"/{SOME}/decision"), ("POST", f"/{SOME}/refund"),
    ],
)  # fmt: skip
async def test_the_desk_is_for_admins(api: Any, method: str, path: str) -> None:
    bodies = {
        "/routing": {"otherwise": {"type": "weights", "weights": {"sandbox": 1}}}, "/provider/sandbox/force":
        {"method": "card", "state": ""},
    }  # fmt: skip
    body = bodies.get(path, {"outcome": "not_executed", "note": "seen"} if path.endswith("settle") else {})
    for roles in ("shopper", "merchant"):
        kwargs = {} if method == "GET" else {"json": body}
        refused = await api.as_user(roles=roles).request(method, PAYMENT + path, **kwargs)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_payments_are_found_by_state_provider_and_order_page_by_page(admin: Any) -> None:
    wishes = [await paid() for _ in range(3)]
    found = (await admin.request("GET", f"{PAYMENT}?order_id={wishes[0].order_id}")).json()
    assert [one["id"] for one in found["data"]] == [str(wishes[0].payment_id)]
    first = (await admin.request("GET", f"{PAYMENT}?state=succeeded&provider=sandbox&limit=2")).json()
    assert [one["id"] for one in first["data"]] == [str(wishes[2].payment_id), str(wishes[1].payment_id)]
    second = (await admin.request("GET", f"{PAYMENT}?limit=2&cursor={first['next_cursor']}")).json()
    assert second["data"][0]["id"] == str(wishes[0].payment_id)
    assert (await admin.request("GET", f"{PAYMENT}?provider=nobody")).json()["data"] == []


async def test_a_refund_needs_a_key_and_says_what_is_left(admin: Any) -> None:
    wish = await paid()
    path = f"{PAYMENT}/{wish.payment_id}/refund"
    keyless = await admin.request("POST", path, json={"amount_minor": 100})
    assert (keyless.status_code, keyless.json()["code"]) == (400, "idempotency_key_required")
    done = await admin.with_headers(idempotency_key="k1").request("POST", path, json={"amount_minor": 100})
    # The shop's own sweeper may have been quicker to send it: then it is confirmed a moment later.
    assert (done.status_code, done.json()["state"]) in {(200, "succeeded"), (202, "sending")}
    async with asyncio.timeout(10):
        while (await admin.request("GET", f"{PAYMENT}/{wish.payment_id}")).json()["returned_minor"] != 100:
            await asyncio.sleep(0.02)
    more = await admin.with_headers(idempotency_key="k2").request("POST", path, json={"amount_minor": 601})
    assert (more.status_code, more.json()["code"], more.json()["left_minor"]) == (409, "refund_too_large", 600)
    for amount in (0, -1, "5", 1.5, None, 10**16):
        bad = await admin.with_headers(idempotency_key="k3").request(
            "POST", path, json={"amount_minor": amount, "x": 1}
        )
        assert (bad.status_code, bad.json()["code"]) == (400, "invalid_request")


async def test_a_decision_says_why(admin: Any) -> None:
    wish = await paid()
    (decision,) = (await admin.request("GET", f"{PAYMENT}/{wish.payment_id}/decision")).json()["data"]
    assert (decision["chosen"], decision["rule"]) == ("sandbox", "otherwise")
    missing = await admin.request("GET", f"{PAYMENT}/{uuid4()}/decision")
    assert missing.status_code == 404


async def test_rules_are_replaced_by_whoever_read_the_last_ones(admin: Any) -> None:
    before = await admin.request("GET", f"{PAYMENT}/routing")
    assert (before.json()["version"], before.headers["etag"]) == (0, '"0"')
    rules = {"otherwise": {"type": "priority", "providers": ["sandbox"]}, "note": "one is enough"}
    unasked = await admin.request("PUT", f"{PAYMENT}/routing", json=rules)
    assert (unasked.status_code, unasked.json()["code"]) == (428, "precondition_required")
    made = await admin.with_headers(if_match='"0"').request("PUT", f"{PAYMENT}/routing", json=rules)
    assert (made.status_code, made.json()["version"], made.headers["etag"]) == (200, 1, '"1"')
    late = await admin.with_headers(if_match='"0"').request("PUT", f"{PAYMENT}/routing", json=rules)
    assert (late.status_code, late.json()["code"]) == (412, "routing_rules_changed")
    wrong = {"otherwise": {"type": "weights", "weights": {"nobody": 1}}}
    refused = await admin.with_headers(if_match='"1"').request("PUT", f"{PAYMENT}/routing", json=wrong)
    assert (refused.status_code, refused.json()["problems"]) == (422, ["otherwise: there is no provider 'nobody' here"])
    assert (await admin.request("GET", f"{PAYMENT}/routing")).json()["version"] == 1


async def test_rules_are_tried_without_sending_anything(admin: Any) -> None:
    tried = (await admin.request("POST", f"{PAYMENT}/routing/try", json={"payments": 100})).json()
    assert tried["chosen"] == {"sandbox": 100}
    no_such = {"payment": {"method": "window"}, "payments": 10}
    tried = (await admin.request("POST", f"{PAYMENT}/routing/try", json=no_such)).json()
    assert tried["chosen"] == {"": 10}
    assert tried["example"]["candidates"][0]["dropped"] == "has no window"


async def test_an_account_is_closed_by_a_word_and_opened_by_another(admin: Any) -> None:
    async def share() -> float:
        health = (await admin.request("GET", f"{PAYMENT}/provider")).json()["data"]
        return float(next(one["share"] for one in health if (one["account"], one["method"]) == ("sandbox", "card")))

    path = f"{PAYMENT}/provider/sandbox/force"
    assert await share() == 1.0
    said = await admin.request("POST", path, json={"method": "card", "state": "open", "note": "they called"})
    assert said.status_code == 200
    assert await share() == 0.0
    refused = await payment.find(SYSTEM, (await paid()).payment_id)
    assert refused is not None
    assert (refused.state, refused.code) == ("failed", "no_provider")
    await admin.request("POST", path, json={"method": "card", "state": ""})
    assert await share() == 1.0
    acts = await store.DB.fetch("SELECT what, account, note FROM operator_act ORDER BY id DESC LIMIT 2")
    assert [tuple(row) for row in acts] == [("force nothing", "sandbox", ""), ("force open", "sandbox", "they called")]
    unknown = await admin.request("POST", f"{PAYMENT}/provider/nobody/force", json={"method": "card", "state": "open"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_account")


async def test_cards_are_kept_listed_and_forgotten_and_their_keys_never_shown(api: Any) -> None:
    me = api.as_user()
    body = {"label": "blue one", "keys": {"sandbox": {"key": "tok_visa_9s3cret"}}}
    kept = await me.with_headers(idempotency_key="c1").request("POST", f"{PAYMENT}/instrument", json=body)
    assert (kept.status_code, kept.json()["accounts"]) == (201, ["sandbox"])
    listed = await me.request("GET", f"{PAYMENT}/instrument")
    assert [one["label"] for one in listed.json()["data"]] == ["blue one"]
    assert "9s3cret" not in kept.text + listed.text
    path, which = f"{PAYMENT}/instrument/forget", {"id": kept.json()["id"]}
    assert (await api.as_user().request("POST", path, json=which)).status_code == 404
    assert (await me.request("POST", path, json=which)).status_code == 204
    assert (await me.request("GET", f"{PAYMENT}/instrument")).json()["data"] == []


async def test_what_a_window_brings_back_is_taken_whole_with_a_key_and_for_ones_own_payment(api: Any) -> None:
    wish = await paid()
    mine, path = api.as_user(wish.customer_id), f"{PAYMENT}/{wish.payment_id}/confirm"
    form, key = {"form": {"paymentKey": "x"}}, {"idempotency-key": uuid4().hex}
    said = await mine.request("POST", path, json=form)
    assert (said.status_code, said.json()["code"]) == (400, "idempotency_key_required")
    said = await mine.request("POST", path, json=form, headers=key)
    assert (said.status_code, said.json()["code"]) == (404, "not_found"), "it was paid with a card"
    for bad in ({}, {"form": {"a": 1}}, {"form": {"a": "x" * 2_001}}, {"form": {str(n): "" for n in range(61)}}):
        said = await mine.request("POST", path, json=bad, headers=key)
        assert (said.status_code, said.json()["code"]) == (400, "invalid_request"), bad


async def test_a_refund_account_is_only_for_a_transfer_of_ones_own(api: Any) -> None:
    wish = await paid()
    path = f"{PAYMENT}/{wish.payment_id}/refund-account"
    account = {"bank": "88", "number": "110123456789", "holder": "Kim"}
    said = await api.as_user(wish.customer_id).request("PUT", path, json=account)
    assert (said.status_code, said.json()["code"]) == (404, "not_found")
    said = await api.as_user(wish.customer_id).request("PUT", path, json=account | {"number": "x"})
    assert (said.status_code, said.json()["code"]) == (400, "invalid_request")
