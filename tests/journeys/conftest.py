"""Journeys run in every wiring, and leave books that are sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

from doorbuster.app import create_app
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka
from doorbuster.platform import calls, settings
from doorbuster.platform.settings import Settings
from doorbuster.services import Split
from tests.in_process import client_of, living_app
from tests.journeys.wirings import Apart, feeding

Change = Callable[..., Awaitable[None]]
PATIENCE_S = 5.0
"""How long the shop waits for its provider, in files of journeys that do not say otherwise (`PATIENCE_S = …`)."""
_SPLITS: dict[str, Split] = {"group": "group", "domain": "domain", "kafka": "group"}


def pytest_configure(config: pytest.Config) -> None:
    """The mark for stories that stop a step inside a process, which no other process can do."""
    config.addinivalue_line("markers", "one_process: holds a step of the shop still, so it runs near and looped only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Verbs as functions; encoded and decoded on the way; as calls to one process per group; to one per domain; to one
    per group while facts go over Kafka.

    The scope puts all stories of a wiring together, so that its services are started once.
    """
    one_process = metafunc.definition.get_closest_marker("one_process") is not None
    distances = ["near", "looped", *(() if one_process else _SPLITS)]
    metafunc.parametrize("distance", distances, indirect=True, scope="session")


class Wiring:
    """Where the services run, and how they are told other settings."""

    def __init__(self, where: str, shop: Settings, kafka: str = "") -> None:
        self.looped = where == "looped"
        self.patience_s = PATIENCE_S
        self.apart = Apart(_SPLITS[where], shop, kafka) if where in _SPLITS else None

    async def use(self, **changes: object) -> None:
        """Run with these settings, and as patient with the provider as the file is, unless they say otherwise."""
        changes = {"payment_timeout_s": self.patience_s} | changes
        settings.use(msgspec.structs.replace(settings.current(), **changes))
        if self.apart is not None:
            await self.apart.hang_up()
            await self.apart.use(**changes)
            self.apart.call_far()


_running: list[Apart] = []


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Services of a wiring end with the last journey: their sweepers would work on the tables of other tests."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        while _running:
            _running.pop().close()


@pytest.fixture(scope="session")
async def feed(
    kafka: TemporaryKafka, postgres: PostgresServer, shop: Settings, by_domain: dict[str, str]
) -> AsyncIterator[str]:
    """Where the broker is that gets the facts of the shop."""
    flows, leave = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # Fixtures are torn down in another task than they are set up in.
        async with feeding(kafka, postgres, shop.databases["commerce.order"], by_domain):
            flows.set()
            await leave.wait()

    living = asyncio.create_task(live())
    await asyncio.wait([living, asyncio.create_task(flows.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not flows.is_set():
        await living
    yield kafka.place.bootstrap
    leave.set()
    await living


@pytest.fixture(scope="session")
def distance(request: pytest.FixtureRequest, shop: Settings) -> Iterator[Wiring]:
    """How far the services are from each other; those of the wiring before are stopped."""
    wiring = Wiring(request.param, shop, request.getfixturevalue("feed") if request.param == "kafka" else "")
    if wiring.apart is not None:
        _running.append(wiring.apart)
    yield wiring
    while _running:
        _running.pop().close()


@pytest.fixture(scope="module")
async def api(shop: Settings, distance: Wiring) -> AsyncIterator[Any]:
    """The application as the edge calls it. When the services are apart, their background work is theirs alone."""
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(living_app()) if distance.apart is None else create_app()
        yield await stack.enter_async_context(client_of(app))


@pytest.fixture(autouse=True)
async def _calls_go(request: pytest.FixtureRequest, distance: Wiring, shop: Settings) -> AsyncIterator[None]:
    """Each test begins with the usual settings, and what it does to this process ends with it."""
    calls.use_looped(distance.looped)
    distance.patience_s = getattr(request.module, "PATIENCE_S", PATIENCE_S)
    await distance.use()
    yield
    calls.use_looped(False)
    if distance.apart is not None:
        await distance.apart.hang_up()
    settings.use(shop)


@pytest.fixture
def change(distance: Wiring) -> Change:
    """Give the shop other settings for the rest of the test, wherever its services run."""
    return distance.use


@pytest.fixture(scope="module", autouse=True)
def _books_stay_sound(sound_books: None) -> None:
    """Whatever a file's journeys cut or killed."""
