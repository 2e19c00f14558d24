"""Calls between processes, over the real server: what comes back, what is repeated, who is let in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import jwt
import msgspec
import pytest

from doorbuster.platform import calls, remote, service_token
from doorbuster.platform.calls import VERBS, Ctx
from doorbuster.platform.errors import OutcomeUnknown, Refusal, Unavailable
from doorbuster.platform.internal import InternalApi, with_internal
from doorbuster.platform.remote import Remote
from doorbuster.platform.rsgi import Protocol, Scope, answer
from doorbuster.platform.service_token import Signer, Verifier
from doorbuster.platform.tests.serving import served_at

HOME = "test.far"
SEEN: list[Ctx] = []


class TooFar(Refusal):
    code, status = "too_far", 410


class Parcel(msgspec.Struct, frozen=True):
    id: UUID
    weights_g: tuple[int, ...]


async def carry(ctx: Ctx, parcel: Parcel, times: int = 2) -> Parcel:
    SEEN.append(ctx)
    return Parcel(parcel.id, parcel.weights_g * times)


async def look(ctx: Ctx, what: str) -> str:
    SEEN.append(ctx)
    match what:
        case "refused":
            raise TooFar("Not there", metres=7)
        case "away":
            raise Unavailable("The shelf is away", retry_after_s=3)
        case "broken":
            raise ZeroDivisionError
        case "slow":
            await asyncio.sleep(5)
    return what


async def put(ctx: Ctx, what: str) -> str:
    if what == "unknown":
        raise OutcomeUnknown("The connection was lost at COMMIT")
    return await look(ctx, what)


def _far(function: Callable[..., Awaitable[Any]], mark: Callable[[Any], Any]) -> Any:
    function.__module__ = f"doorbuster.domains.{HOME}.service"
    return mark(function)


FAR_CARRY, FAR_LOOK, FAR_PUT = _far(carry, calls.command), _far(look, calls.query), _far(put, calls.command)


@pytest.fixture(scope="module", autouse=True)
def _forget_verbs() -> Iterator[None]:
    yield
    for name in ("carry", "look", "put"):
        VERBS.pop(f"{HOME}.{name}", None)


class Keys:
    """Key pairs of two services."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.public = {name: service_token.ensure_key(folder / name) for name in ("caller", "stranger")}

    def signer(self, name: str) -> Signer:
        return Signer(name, str(self.folder / name))

    def private(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def pairs(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


async def _nothing(scope: Scope, protocol: Protocol) -> None:
    answer(protocol, 404, [], b"")


def _may_call(caller: str, domain: str) -> bool:
    return (caller, domain) == ("caller", HOME)


@asynccontextmanager
async def far(pairs: Keys, signer: Signer | None = None) -> AsyncIterator[Remote]:
    """The verbs above, served; calls of them go there."""
    SEEN.clear()
    api = InternalApi({HOME}, Verifier(pairs.public), _may_call)
    async with served_at(with_internal(_nothing, api)) as socket:
        there = Remote(f"unix:{socket}", signer or pairs.signer("caller"))
        calls.use_far({HOME: there})
        try:
            yield there
        finally:
            calls.use_far({})
            await there.close()


async def test_arguments_result_and_context_travel(pairs: Keys) -> None:
    ctx = Ctx(subject=uuid4(), roles=frozenset({"shopper"}), idempotency_key="k", request_id="r-1")
    parcel = Parcel(uuid4(), (1, 2))
    async with far(pairs):
        assert await FAR_CARRY(ctx, parcel) == Parcel(parcel.id, (1, 2, 1, 2))
        assert await FAR_CARRY(ctx, parcel, times=1) == parcel
    assert msgspec.structs.replace(SEEN[0], deadline=0.0) == ctx


async def test_a_refusal_comes_back_as_its_class(pairs: Keys) -> None:
    async with far(pairs):
        with pytest.raises(TooFar) as refused:
            await FAR_LOOK(Ctx(), "refused")
    assert (refused.value.detail, refused.value.members) == ("Not there", {"metres": 7})
    assert len(SEEN) == 1


@pytest.mark.parametrize(
    ("verb", "what", "kind", "times"),
    [
        (FAR_LOOK, "away", Unavailable, 3),
        (FAR_PUT, "away", Unavailable, 1),
        (FAR_PUT, "unknown", OutcomeUnknown, 0),
        (FAR_LOOK, "broken", Unavailable, 3),
        (FAR_PUT, "broken", OutcomeUnknown, 1),
    ],
)
async def test_a_query_is_repeated_and_a_command_is_not(
    pairs: Keys, verb: Any, what: str, kind: type[Unavailable], times: int
) -> None:
    async with far(pairs):
        with pytest.raises(Unavailable) as error:
            await verb(Ctx(), what)
    assert (type(error.value), len(SEEN)) == (kind, times)
    assert error.value.retry_after_s == (3 if what == "away" else 1)


@pytest.mark.parametrize(("verb", "kind"), [(FAR_LOOK, Unavailable), (FAR_PUT, OutcomeUnknown)])
async def test_nobody_waits_beyond_the_deadline(pairs: Keys, verb: Any, kind: type[Unavailable]) -> None:
    began = time.monotonic()
    async with far(pairs):
        with pytest.raises(Unavailable) as error:
            await verb(Ctx(deadline=time.time() + 0.3), "slow")
        took = time.monotonic() - began
    assert type(error.value) is kind
    assert took < 2


async def test_the_callee_learns_how_long_it_has_by_its_own_clock(pairs: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two clocks are an hour apart: a duration travels, not a time."""
    async with far(pairs):
        monkeypatch.setattr("doorbuster.platform.internal.time", SimpleNamespace(time=lambda: 3_600.0))
        assert await FAR_LOOK(Ctx(deadline=time.time() + 2.0), "here") == "here"
    assert 3_600.0 < SEEN[0].deadline <= 3_602.0


async def test_where_nobody_listens_the_service_is_away_and_a_command_was_not_sent(pairs: Keys) -> None:
    calls.use_far({HOME: Remote(f"unix:{pairs.folder}/nobody", pairs.signer("caller"))})
    try:
        for verb in (FAR_LOOK, FAR_PUT):
            with pytest.raises(Unavailable, match=r"test\.far is away") as error:
                await verb(Ctx(), "x")
            assert not isinstance(error.value, OutcomeUnknown)
    finally:
        calls.use_far({})


class Recorder:
    """A server that counts connections and requests, and hangs up on the first so many requests."""

    def __init__(self, hang_up: int = 0) -> None:
        self.connections = 0
        self.requests = 0
        self._hang_up = hang_up

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                self.requests += 1
                if self.requests <= self._hang_up:
                    break
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"ok"')
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@asynccontextmanager
async def recorded(pairs: Keys, recorder: Recorder) -> AsyncIterator[None]:
    path = pairs.folder / "recorder.sock"
    server = await asyncio.start_unix_server(recorder.handle, str(path))
    there = Remote(f"unix:{path}", pairs.signer("caller"))
    calls.use_far({HOME: there})
    try:
        yield
    finally:
        calls.use_far({})
        await there.close()
        server.close()


async def test_a_hundred_calls_share_one_connection(pairs: Keys) -> None:
    recorder = Recorder()
    async with recorded(pairs, recorder):
        assert [await FAR_LOOK(Ctx(), "x") for _ in range(100)] == ["ok"] * 100
    assert (recorder.connections, recorder.requests) == (1, 100)


@pytest.mark.parametrize(("verb", "asked"), [(FAR_LOOK, 2), (FAR_PUT, 1)])
async def test_when_the_callee_hangs_up_only_a_query_is_asked_again(pairs: Keys, verb: Any, asked: int) -> None:
    recorder = Recorder(hang_up=1)
    async with recorded(pairs, recorder):
        if asked == 2:
            assert await verb(Ctx(), "x") == "ok"
        else:
            with pytest.raises(OutcomeUnknown):
                await verb(Ctx(), "x")
    assert recorder.requests == asked


def _token(pairs: Keys, key_of: str, **claims: Any) -> str:
    now = int(time.time())
    usual = {"iss": "caller", "aud": HOME, "iat": now, "exp": now + 60}
    return jwt.encode(usual | claims, pairs.private(key_of), algorithm="EdDSA")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("none", 401),
        ("garbage", 401),
        ("unsigned", 401),
        ("expired", 401),
        ("for another domain", 401),
        ("of an unknown service", 401),
        ("signed by another", 401),
        ("good for a day", 401),
        ("of a service that may not", 403),
        ("good", 200),
    ],
)
async def test_only_a_service_that_may_call_is_answered(pairs: Keys, name: str, status: int) -> None:
    now = int(time.time())
    tokens = {
        "none": "",
        "garbage": "Bearer x.y.z",
        "unsigned": "Bearer " + jwt.encode({"iss": "caller", "aud": HOME, "exp": now + 60}, "", algorithm="none"),
        "expired": "Bearer " + _token(pairs, "caller", iat=now - 120, exp=now - 60),
        "for another domain": "Bearer " + _token(pairs, "caller", aud="item.stock"),
        "of an unknown service": "Bearer " + _token(pairs, "caller", iss="nobody"),
        "signed by another": "Bearer " + _token(pairs, "stranger"),
        "good for a day": "Bearer " + _token(pairs, "caller", exp=now + 86_400),
        "of a service that may not": "Bearer " + _token(pairs, "stranger", iss="stranger"),
        "good": "Bearer " + _token(pairs, "caller"),
    }
    api = InternalApi({HOME}, Verifier(pairs.public), _may_call)
    SEEN.clear()
    async with served_at(with_internal(_nothing, api)) as socket:
        connector = aiohttp.UnixConnector(path=str(socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            wire = VERBS[f"{HOME}.look"].encode_arguments(Ctx(), ("x",), {})
            headers = {"authorization": tokens[name], remote.TIMEOUT_HEADER: "1000"}
            for _ in range(2):  # what is remembered of a token is as strict as the first look
                url = f"http://service{remote.PREFIX}{HOME}.look"
                async with session.post(url, data=wire, headers=headers) as said:
                    assert said.status == status
    assert len(SEEN) == (2 if status == 200 else 0)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("test.far.fly", None, 404),
        ("item.stock.reserve", None, 404),
        ("test.far.look", b"not json", 400),
        ("test.far.look", b'{"ctx":{},"what":7}', 400),
        ("test.far.look", b'{"ctx":{}}', 400),
    ],
)
async def test_what_this_version_does_not_understand_is_refused_and_away_for_the_caller(
    pairs: Keys, path: str, body: bytes | None, status: int
) -> None:
    async with far(pairs) as there:
        verb = calls.Verb(look, "command")
        verb.wire_id = path
        session = there._open()
        headers = {"authorization": f"Bearer {pairs.signer('caller').token_for(HOME)}", remote.TIMEOUT_HEADER: "1000"}
        wire = verb.encode_arguments(Ctx(), ("x",), {}) if body is None else body
        async with session.post(f"http://service{remote.PREFIX}{path}", data=wire, headers=headers) as said:
            assert said.status == status
        with pytest.raises(Unavailable):
            await there(verb, Ctx(), wire)
    assert SEEN == []


def test_a_token_is_signed_once_in_half_a_minute(pairs: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = pairs.signer("caller")
    first = signer.token_for(HOME)
    assert signer.token_for(HOME) == first
    later = time.time() + 31
    monkeypatch.setattr("doorbuster.platform.service_token.time.time", lambda: later)
    assert signer.token_for(HOME) != first


def test_a_private_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    public = service_token.ensure_key(tmp_path / "key")
    assert service_token.ensure_key(tmp_path / "key") == public
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
