"""Whatever is sent, nothing hostile moves money or gets more than a refusal."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorbuster.simulators.host.tests.processes import SECRET, basic
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.kakaopay import books as kakao_books
from doorbuster.simulators.kakaopay import provider as kakao
from doorbuster.simulators.toss import books as toss_books
from doorbuster.simulators.toss import provider as toss

AUTHORIZED = {name.lower(): value for name, value in basic().items()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
TOSS_PATHS = [
    "/v1/payments/confirm",
    "/v1/payments/x/cancel",
    "/v1/virtual-accounts",
    "/v1/billing/authorizations/issue",
    "/v1/billing/x",
    "/v1/payments/orders/x",
    "/v1/payments/x",
    "/v1/transactions",
    "/v1/settlements",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST"]),
    path=st.sampled_from(TOSS_PATHS) | st.text(max_size=40),
    query=st.dictionaries(
        st.sampled_from(["startDate", "endDate", "limit", "page", "size", "dateType"]), st.text(max_size=30)
    ),
    key=st.none() | st.text(max_size=310),
    body=BODIES,
)
def test_nothing_hostile_moves_money_or_breaks_toss(
    method: str, path: str, query: dict[str, str], key: str | None, body: bytes
) -> None:
    provider = toss.Provider(toss_books.Books(lambda _e: None), SECRET, lambda: 1_700_000_000_000, lambda *_a: None)
    headers = AUTHORIZED | ({} if key is None else {"idempotency-key": key})
    admitted = provider.admit(Request(method, path, query, headers, body, "http://x"))
    answer = admitted if isinstance(admitted, Answer) else provider.decide(admitted, lambda: False)
    assert answer.status in (200, 400, 403, 404)
    assert answer.kind in ("read", "other")
    assert not any(payment.moves for payment in provider.books.payments.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.sampled_from(sorted(kakao.ROUTES)) | st.text(max_size=40), body=BODIES)
def test_nothing_hostile_moves_money_or_breaks_kakaopay(path: str, body: bytes) -> None:
    provider = kakao.Provider(kakao_books.Books(lambda _e: None), SECRET, lambda: 1_700_000_000_000)
    headers = {"authorization": f"SECRET_KEY {SECRET}"}
    admitted = provider.admit(Request("POST", path, {}, headers, body, "http://x"))
    answer = admitted if isinstance(admitted, Answer) else provider.decide(admitted, lambda: False)
    assert answer.status in (400, 404)
    assert provider.books.payments == {}
