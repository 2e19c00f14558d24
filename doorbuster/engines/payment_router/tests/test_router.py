"""One call over a real socket: what can be known when the wire fails at each point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import ChargeOrder, Outcome, RefundOrder, lines
from doorbuster.platform import settings
from doorbuster.platform.settings import ProviderLogin, Settings

ORDER = ChargeOrder("sandbox", "pay-1.1", "pay-1.1", 700, "USD", "tok_visa")
CHARGE = msgspec.json.encode(
    {"id": "ch_1", "reference": "pay-1.1", "status": "captured", "amount_minor": 700, "currency": "USD"}
)
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, status: bytes = b"200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (status, size, body)


@asynccontextmanager
async def provider(shop: Settings, folder: Path, play: Play) -> AsyncIterator[None]:
    """A provider that plays this to whoever connects."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await play(reader, writer)
        finally:
            writer.transport.abort() if not writer.is_closing() else None

    (folder / "secret").write_text("s")
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = ProviderLogin(f"http://127.0.0.1:{port}", str(folder / "secret"))
    settings.use(msgspec.structs.replace(shop, providers={"sandbox": login}, payment_timeout_s=0.5))
    try:
        yield
    finally:
        settings.use(shop)
        await payment_router.close()
        server.close()


def answering(*parts: bytes, pause_s: float = 0.0) -> Play:
    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        writer.close()

    return play


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    ("play", "outcome"),
    [
        pytest.param(answering(http(CHARGE)), Outcome.SUCCEEDED, id="captured"),
        pytest.param(answering(http(CHARGE)[:90], http(CHARGE)[90:], pause_s=0.05), Outcome.SUCCEEDED, id="in pieces"),
        pytest.param(answering(http(CHARGE)[:90]), Outcome.UNKNOWN, id="cut inside"),
        pytest.param(answering(), Outcome.UNKNOWN, id="reset"),
        pytest.param(silent, Outcome.UNKNOWN, id="silent"),
        pytest.param(answering(b"SSH-2.0-hello\r\n"), Outcome.UNKNOWN, id="not http"),
        pytest.param(answering(http(b"x" * (lines.MAX_ANSWER + 1))), Outcome.UNKNOWN, id="too large"),
        pytest.param(answering(http(b"[" * 100_000)), Outcome.UNKNOWN, id="nested"),
        pytest.param(answering(http(b"", b"302 Found")), Outcome.UNKNOWN, id="elsewhere"),
        pytest.param(answering(http(CHARGE, b"500 Oops")), Outcome.UNKNOWN, id="server error"),
    ],
)
async def test_what_is_known_after_a_charge(shop: Settings, tmp_path: Path, play: Play, outcome: Outcome) -> None:
    async with provider(shop, tmp_path, play):
        assert (await payment_router.charge(ORDER)).outcome is outcome


async def test_a_connection_that_was_never_made_was_not_sent(shop: Settings, tmp_path: Path) -> None:
    async with provider(shop, tmp_path, silent):
        login = ProviderLogin("http://127.0.0.1:1", str(tmp_path / "secret"))
        settings.use(msgspec.structs.replace(settings.current(), providers={"sandbox": login}))
        assert (await payment_router.charge(ORDER)).outcome is Outcome.NOT_SENT
        assert (await payment_router.inquire(ORDER, age_s=1_000)).outcome is Outcome.UNKNOWN
        refund = RefundOrder("sandbox", "pay-1", "ref-1", "ch_1", 700, "USD")
        assert (await payment_router.refund(refund)).outcome is Outcome.NOT_SENT


async def test_a_silent_provider_whose_lines_are_all_taken_holds_nobody_else_up(shop: Settings, tmp_path: Path) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the caller gives up
        writer.close()

    quiet = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=1_024)
    async with provider(shop, tmp_path, answering(http(CHARGE))):
        good = settings.current().providers["sandbox"]
        port = quiet.sockets[0].getsockname()[1]
        slow = ProviderLogin(f"http://127.0.0.1:{port}", good.secret_file, kind="sandbox")
        accounts = {"sandbox": good, "slow": slow}
        settings.use(msgspec.structs.replace(settings.current(), providers=accounts, payment_timeout_s=4.0))
        stuck = [
            asyncio.create_task(payment_router.charge(msgspec.structs.replace(ORDER, provider="slow")))
            for _ in range(lines.MOST_LINES + 20)
        ]
        await asyncio.sleep(0.5)
        async with asyncio.timeout(3.0):
            assert (await payment_router.charge(ORDER)).outcome is Outcome.SUCCEEDED
        outcomes = [(await one).outcome for one in stuck]
        # Who waited for a line in vain has sent nothing, and may go elsewhere.
        assert outcomes.count(Outcome.NOT_SENT) == 20 and outcomes.count(Outcome.UNKNOWN) == lines.MOST_LINES
    quiet.close()


async def test_what_is_closed_forgets_how_it_was_known(shop: Settings, tmp_path: Path) -> None:
    async with provider(shop, tmp_path, answering(http(CHARGE))):
        assert lines.login("sandbox").secret.reveal() == "s"
    assert lines.login("sandbox").secret.reveal() == Path(shop.providers["sandbox"].secret_file).read_text()


async def test_a_providers_words_are_cut_to_what_our_records_take(shop: Settings, tmp_path: Path) -> None:
    body = msgspec.json.encode({"error": {"type": "api_error", "code": "no\x00\n" + "é" * 10 + "x" * 500}})
    async with provider(shop, tmp_path, answering(http(body, b"500 Oops"))):
        result = await payment_router.charge(ORDER)
    assert result.outcome is Outcome.UNKNOWN
    assert result.code == "no" + "x" * 62


async def test_the_horizon_outlasts_the_timeout_and_the_inquiries(shop: Settings) -> None:
    assert payment_router.horizon_s() > shop.payment_timeout_s + 20
