"""A day's settlement rows come whole over a real line, or not at all: pages, limits, unusable answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import SettlementsUnreadable, lines, settlements
from doorbuster.engines.payment_router.provider import SettlementRow
from doorbuster.platform import money, settings
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.settings import ProviderLogin, Settings

DAY = dt.date(2026, 3, 4)
Answer = Callable[[int], tuple[int, Any]]


def row(number: int, **change: object) -> dict[str, object]:
    made = {
        "id": f"ch_{number}", "charge_id": f"ch_{number}", "reference": "", "type": "charge", "amount_minor": 100,
        "fee_minor": 3, "net_minor": 97, "currency": "USD", "date": "2026-03-04", "paid_out_on": "2026-03-05",
    }  # fmt: skip
    return made | change


class Desk:
    """Guards what a provider on a real port answers for each page."""

    def __init__(self) -> None:
        self.answer: Answer = lambda page: (200, {"data": [row(page)], "next_page": page + 1 if page < 3 else None})
        self.asked: list[tuple[str, str]] = []

    async def settle(self, request: web.Request) -> web.Response:
        page = request.query["page"]
        self.asked.append((request.query["date"], page))
        status, body = self.answer(int(page))
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return web.Response(status=status, body=content, content_type="application/json")


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made, app = Desk(), web.Application()
    app.router.add_get("/v1/settlements", made.settle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (tmp_path / "secret").write_text("s3cret")
    before = settings._current
    login = ProviderLogin(f"http://127.0.0.1:{port}", str(tmp_path / "secret"), kind="sandbox")
    silent = msgspec.structs.replace(login, base_url="http://127.0.0.1:1")
    none = msgspec.structs.replace(login, kind="nicepay")
    accounts = {f"desk{port}": login, f"silent{port}": silent, f"none{port}": none}
    settings.use(msgspec.structs.replace(before or Settings(), providers=accounts, payment_timeout_s=5.0))
    yield made
    await lines.close()
    await runner.cleanup()
    settings._current = before


def account(kind: str = "desk") -> str:
    return next(name for name in settings.current().providers if name.startswith(kind))


async def rows(page: str = "", kind: str = "desk") -> list[SettlementRow]:
    return [row async for found in payment_router.settlement_rows(account(kind), DAY, page) for row in found.rows]


async def test_all_pages_of_a_day_are_rows_of_our_account(desk: Desk) -> None:
    found = await rows()
    assert [one.transaction_id for one in found] == ["ch_1", "ch_2", "ch_3"]
    assert {one.provider for one in found} == {account()}
    assert desk.asked == [("2026-03-04", str(n)) for n in (1, 2, 3)]
    assert found[0].paid_on == dt.date(2026, 3, 5) and (found[0].amount_minor, found[0].fee_minor) == (100, 3)


async def test_reading_goes_on_at_a_page(desk: Desk) -> None:
    assert [one.transaction_id for one in await rows("3")] == ["ch_3"]


async def test_who_can_be_asked_is_known_beforehand(desk: Desk) -> None:
    assert payment_router.settling_accounts() == [account(), account("silent")]
    assert not payment_router.takes_settlement_files(account())
    with pytest.raises(KeyError):
        await rows(kind="none")
    with pytest.raises(KeyError):
        payment_router.read_settlement_file(account(), b"")


async def test_silence_is_unavailable(desk: Desk) -> None:
    with pytest.raises(Unavailable, match="unreachable"):
        await rows(kind="silent")
    for status in (429, 500, 503):
        desk.answer = lambda page, status=status: (status, {})  # type: ignore[misc]  # one parameter is asked for
        with pytest.raises(Unavailable, match=str(status)):
            await rows()


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"{"), (200, {"data": []}), (401, {}), (200, {"data": [row(1, net_minor=98)], "next_page": None}),
        (200, {"data": [row(1, date="2026-03-05")], "next_page": None}),
        (200, {"data": [row(1, type="payout")], "next_page": None}),
        (200, {"data": [row(1, currency="XXX")], "next_page": None}),
        (200, {"data": [row(1, amount_minor=-100, net_minor=-103)], "next_page": None}),
        (200, {"data": [row(1, id="a b")], "next_page": None}), (200, {"data": [row(1)], "next_page": 7}),
        (200, {"data": [row(1, amount_minor=money.MAX_MINOR + 1, fee_minor=1, net_minor=money.MAX_MINOR)],
               "next_page": None}),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_what_is_documented_spoils_the_day(desk: Desk, answer: tuple[int, Any]) -> None:
    desk.answer = lambda page: answer
    with pytest.raises(SettlementsUnreadable):
        await rows()


async def test_pages_without_end_are_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "MAX_PAGES", 20)
    desk.answer = lambda page: (200, {"data": [], "next_page": page + 1})
    with pytest.raises(SettlementsUnreadable, match="20 pages"):
        await rows()
    assert len(desk.asked) == 20


async def test_a_large_page_is_taken_and_one_beyond_all_limits_is_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.answer = lambda page: (200, {"data": [row(n) for n in range(9_000)], "next_page": None})
    assert len(await rows()) == 9_000, "more than a call about a payment may answer"
    monkeypatch.setattr(settlements, "MAX_PAGE_BYTES", 1_000)
    with pytest.raises(Unavailable, match="answer_too_large"):
        await rows()
