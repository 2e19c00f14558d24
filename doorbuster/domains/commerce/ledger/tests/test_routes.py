"""Ledger through its routes: for admins alone, and files as the provider gives them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from doorbuster.domains.commerce.ledger.tests.till import TERMS, Till, hear
from doorbuster.domains.commerce.payment import MoneyMoved
from doorbuster.platform import settings

pytestmark = pytest.mark.usefixtures("sound_books")
PATHS = [
    ("GET", "/api/v1/ledger/account"), ("GET", "/api/v1/ledger/reconciliation"), ("GET", "/api/v1/ledger/case"),
    ("POST", "/api/v1/ledger/settlement?provider=p"), ("POST", f"/api/v1/ledger/case/{UUID(int=7)}/close"),
]  # fmt: skip
HEAD = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,customer_facing_amount,"
    "customer_facing_currency,payment_intent_id\r\n"
)
LINES = (
    "txn_1,2026-05-01 12:00:00,usd,10.00,0.59,9.41,charge,ch_1,10.00,usd,pi_1\r\n"
    "txn_2,2026-05-01 13:00:00,usd,-2.50,0.00,-2.50,refund,re_1,-2.50,usd,pi_1\r\n"
)
DAY = "2026-05-01"


@pytest.fixture
async def admin(api: Any) -> Any:
    return api.as_user(roles="admin")


@pytest.fixture
async def stripe(till: Till) -> str:
    """An account whose provider gives files."""
    login = msgspec.structs.replace(till.login(), kind="stripe", settlement=TERMS)
    settings.use(msgspec.structs.replace(settings.current(), providers={till.account: login}))
    return till.account


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_only_admins_may(api: Any, method: str, path: str) -> None:
    body = {"json": {"note": "x"}} if path.endswith("close") else {}
    for roles in ("shopper", "merchant"):
        answer = await api.as_user(roles=roles).request(method, path, **body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await api.request(method, path, **body)).status_code == 401


async def test_a_file_is_matched_reported_and_its_cases_are_closed(admin: Any, stripe: str) -> None:
    payment = uuid4()
    await hear(MoneyMoved(uuid4(), payment, payment, stripe, "pi_1", "", f"{payment}.1", 1_000, "USD", "paid"))
    path = f"/api/v1/ledger/settlement?provider={stripe}&day={DAY}"
    headers = {"content-type": "text/csv"}
    taken = await admin.post(path, content=(HEAD + LINES).encode(), headers=headers)
    assert taken.status_code == 200, taken.text
    figures = {"rows": 2, "new": 2, "matched": 1, "closed": 0}
    assert figures.items() <= taken.json().items() and taken.json()["opened"] == 2
    again = (await admin.post(path, content=(HEAD + LINES).encode(), headers=headers)).json()
    assert (again["new"], again["matched"], again["opened"]) == (0, 0, 0)

    query = f"provider={stripe}&day={DAY}"
    (report,) = (await admin.get(f"/api/v1/ledger/reconciliation?{query}")).json()["data"]
    kinds = {one["kind"]: (one["count"], one["sum_minor"], one["open"]) for one in report["figures"]}
    assert report["rows"] == 2
    assert kinds == {"matched": (1, 1_000, 0), "missing_ours": (1, -250, 1), "fee": (1, 30, 1)}
    assert report in (await admin.get("/api/v1/ledger/reconciliation")).json()["data"]

    first = (await admin.get(f"/api/v1/ledger/case?provider={stripe}&limit=1")).json()
    rest = (await admin.get(f"/api/v1/ledger/case?provider={stripe}&cursor={first['next_cursor']}")).json()
    cases = [*first["data"], *rest["data"]]
    assert sorted(one["kind"] for one in cases) == ["fee", "missing_ours"] and rest["next_cursor"] is None
    assert (await admin.get(f"/api/v1/ledger/case?provider={stripe}&kind=amount")).json()["data"] == []
    case = next(one for one in cases if one["kind"] == "missing_ours")
    assert case["theirs"][0]["transaction_id"] == "re_1" and case["next_step"]
    close = f"/api/v1/ledger/case/{case['id']}/close"
    assert (await admin.post(close, json={"note": ""})).status_code == 400
    closed = await admin.post(close, json={"note": "given back by hand"})
    assert (closed.status_code, closed.json()["state"]) == (200, "closed")
    shut = (await admin.get(f"/api/v1/ledger/case?provider={stripe}&closed=true")).json()["data"]
    assert [one["note"] for one in shut] == ["given back by hand"]


async def test_the_balances_are_listed_and_sum_to_nothing(admin: Any, stripe: str) -> None:
    payment = uuid4()
    await hear(MoneyMoved(uuid4(), payment, payment, stripe, "pi_9", "", f"{payment}.1", 1_000, "USD", "paid"))
    found = (await admin.get("/api/v1/ledger/account")).json()["data"]
    assert {"account": f"provider:{stripe}:USD", "balance_minor": 1_000}.items() <= next(
        one for one in found if stripe in one["account"]
    ).items()
    assert sum(one["balance_minor"] for one in found if one["currency"] == "USD") == 0


@pytest.mark.parametrize(
    ("provider", "file", "status", "code"),
    [
        ("nobody", b"", 404, "unknown_provider"), ("", b"", 422, "unreadable_settlements"),
        ("", (HEAD + LINES).replace("9.41", "9.42").encode(), 422, "unreadable_settlements"),
        ("", (HEAD + LINES)[:-20].encode(), 422, "unreadable_settlements"),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_is_refused_whole(
    admin: Any, stripe: str, provider: str, file: bytes, status: int, code: str
) -> None:
    path = f"/api/v1/ledger/settlement?provider={provider or stripe}"
    answer = await admin.post(path, content=file, headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await admin.get(f"/api/v1/ledger/case?provider={stripe}")).json()["data"] == []
