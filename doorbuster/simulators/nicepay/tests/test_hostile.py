"""Whatever is sent to NICEPAY, nothing hostile moves money or gets more than a refusal."""

import base64
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.nicepay import calls
from doorbuster.simulators.nicepay.books import Books, Entry
from doorbuster.simulators.nicepay.calls import Ticket
from doorbuster.simulators.nicepay.provider import Keys, Provider
from doorbuster.simulators.nicepay.requests import BuyerBody
from doorbuster.simulators.nicepay.tests.caller import encrypted
from doorbuster.simulators.nicepay.window import play_buyer

SECRET = "2dcc2a0d63bf469490bb19a201be3735"
KEYS = Keys("client", SECRET)
AUTHORIZED = {"authorization": "Basic " + base64.b64encode(f"client:{SECRET}".encode()).decode()}
NOW_MS = 1_700_000_000_000
BID = "BIKYnictest00m2311150713200001"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["amount", "orderId", "reason", "cancelAmt", "taxFreeAmt", "signData", "ediDate", "returnCharSet", "goodsName"]
NAMES += ["encData", "encMode", "cardQuota", "useShopInterest", "mallReserved", "refundAccount"]
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=9).map(lambda value: json.dumps(value).encode())
)
PATHS = [
    "/v1/access-token",
    "/v1/payments/x",
    "/v1/payments/%ff%00",
    "/v1/payments/x/cancel",
    "/v1/payments/netcancel",
    "/v1/payments/find/x",
    "/v1/check-amount/x",
    "/v1/subscribe/regist",
    f"/v1/subscribe/{BID}/payments",
    f"/v1/subscribe/{BID}/expire",
]


def provider_with(append: object = lambda _entry: None) -> Provider:
    return Provider(Books(append), KEYS, lambda: NOW_MS, lambda *_told: None)  # type: ignore[arg-type]


def answered(provider: Provider, request: Request) -> Answer:
    admitted = calls.admit(provider, request)
    return admitted if isinstance(admitted, Answer) else calls.decide(provider, admitted, lambda: False)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.sampled_from(PATHS) | st.text(max_size=40),
    query=st.dictionaries(st.sampled_from(["orderDate", "signData", "ediDate", "returnCharSet"]), st.text(max_size=20)),
    body=BODIES,
)
def test_nothing_hostile_moves_money_or_breaks_nicepay(
    method: str, path: str, query: dict[str, str], body: bytes
) -> None:
    provider = provider_with()
    answer = answered(provider, Request(method, path, query, AUTHORIZED, body, "http://x"))
    assert answer.status in (200, 403, 404, 405)
    assert answer.kind in ("read", "other")
    assert json.loads(answer.body.decode(answer.charset))["resultCode"] != "0000"
    assert provider.books.payments == {}
    assert provider.in_work == set()


@settings(max_examples=100, deadline=None)
@given(credential=st.text(max_size=60), scheme=st.sampled_from(["Basic", "Bearer", "basic", "", "Digest"]))
def test_no_invented_credential_is_let_in(credential: str, scheme: str) -> None:
    for path in ("/v1/access-token", "/v1/payments/x"):
        for is_bearer in (False, True):
            provider = Provider(Books(lambda _e: None), Keys("client", SECRET, is_bearer), lambda: NOW_MS, print)
            headers = {"authorization": f"{scheme} {credential}"}
            answer = answered(provider, Request("POST", path, {}, headers, b"{}", "http://x"))
            assert answer.status == 401


@settings(max_examples=100, deadline=None)
@given(plain=st.text(max_size=80), mode=st.sampled_from([None, "A2"]))
def test_no_hostile_card_becomes_a_key(plain: str, mode: str | None) -> None:
    provider = provider_with()
    body = {"orderId": "o", "encData": encrypted(plain, SECRET, 32 if mode else 16)} | (
        {"encMode": mode} if mode else {}
    )
    request = Request("POST", "/v1/subscribe/regist", {}, AUTHORIZED, json.dumps(body).encode(), "http://x")
    assert json.loads(answered(provider, request).body)["resultCode"] in ("U317", "F101", "U105")
    assert provider.books.billings == {}


def test_a_ledger_that_takes_nothing_leaves_everything_as_it_was() -> None:
    told: list[str] = []
    broken = False

    def append(_entry: Entry) -> None:
        if broken:
            raise LedgerUnavailable("no disk")

    provider = Provider(Books(append), KEYS, lambda: NOW_MS, lambda id_, _view, _at: told.append(id_))
    bought = play_buyer(provider, BuyerBody("order-1", 1_000))
    body = json.dumps({"amount": 1_000}).encode()
    request = Request("POST", f"/v1/payments/{bought['tid']}", {}, AUTHORIZED, body, "http://x")
    broken = True
    ticket = calls.admit(provider, request)
    assert isinstance(ticket, Ticket)
    try:
        calls.decide(provider, ticket, lambda: False)
    except LedgerUnavailable:
        pass
    else:
        raise AssertionError("it must say that nothing was written")
    assert (provider.books.payments[bought["tid"]].status, told, provider.in_work) == ("authenticated", [], set())
    broken = False
    assert answered(provider, request).kind == "capture"
    assert len(told) == 1
