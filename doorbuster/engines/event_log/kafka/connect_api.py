"""Kafka Connect's REST interface, as far as it is needed: configure, look, restart, stop, forget offsets, remove."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec

from doorbuster.platform.errors import Unavailable

_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 30.0
_ANSWER_LIMIT_BYTES = 4 * 1024 * 1024


class Task(msgspec.Struct, frozen=True):
    """A task of a connector as Connect sees it; `trace` says why it failed."""

    id: int
    state: str
    trace: str = ""


class _ConnectorState(msgspec.Struct, frozen=True):
    state: str
    trace: str = ""


class Status(msgspec.Struct, frozen=True):
    """A connector as Connect sees it. States are Connect's: RUNNING, FAILED, STOPPED, PAUSED, UNASSIGNED, ..."""

    connector: _ConnectorState
    tasks: list[Task]


class Refused(Exception):
    """Connect answered that it will not; the message is its own."""


class ConnectApi:
    """Guards one HTTP session to a worker. Every call raises `Unavailable` when Connect is away or busy rebalancing."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    async def close(self) -> None:
        """End the session."""
        await self._session.close()

    async def configuration(self, name: str) -> dict[str, str] | None:
        """What a connector was told; None when there is none of that name."""
        status, body = await self._ask("GET", f"/connectors/{name}/config")
        return None if status == 404 else msgspec.json.decode(body, type=dict[str, str])

    async def create_stopped(self, name: str, configuration: dict[str, str]) -> None:
        """Make a connector that does not run yet."""
        content = {"name": name, "config": configuration, "initial_state": "STOPPED"}
        await self._ask("POST", "/connectors", content)

    async def configure(self, name: str, configuration: dict[str, str]) -> None:
        """Make a connector, or change it (its task is restarted then)."""
        await self._ask("PUT", f"/connectors/{name}/config", configuration)

    async def status(self, name: str) -> Status | None:
        """How a connector is; None when there is none of that name."""
        status, body = await self._ask("GET", f"/connectors/{name}/status")
        return None if status == 404 else msgspec.json.decode(body, type=Status)

    async def restart(self, name: str) -> None:
        """Restart what has failed of a connector, and nothing else."""
        await self._ask("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    async def stop(self, name: str) -> None:
        """Stop a connector and wait until no task of it is left (30 s at most); it keeps its configuration."""
        await self._ask("PUT", f"/connectors/{name}/stop")
        deadline = asyncio.get_running_loop().time() + _STOP_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            status = await self.status(name)
            if status is None or (status.connector.state == "STOPPED" and not status.tasks):
                return
            await asyncio.sleep(0.1)
        raise Unavailable(f"Connect has not stopped {name} within {_STOP_TIMEOUT_S:g} s")

    async def resume(self, name: str) -> None:
        """Let a stopped connector run again."""
        await self._ask("PUT", f"/connectors/{name}/resume")

    async def forget_offsets(self, name: str) -> None:
        """Have a stopped connector begin where its slot stands."""
        await self._ask("DELETE", f"/connectors/{name}/offsets")

    async def remove(self, name: str) -> None:
        """Remove a connector, if it is there. Its offsets stay: forget them first."""
        await self._ask("DELETE", f"/connectors/{name}")

    async def _ask(self, method: str, path: str, content: object = None) -> tuple[int, bytes]:
        """Status (2xx or 404) and body. 409 is a rebalance under way, 500 and above a worker in trouble."""
        # Every request says JSON, also without a body: Connect answers 415 to a PUT that does not.
        headers = {"content-type": "application/json"}
        body = None if content is None else msgspec.json.encode(content)
        try:
            async with self._session.request(method, self._url + path, data=body, headers=headers) as answer:
                said = await _body(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka Connect is away: {error!r}") from error
        if answer.status == 409 or answer.status >= 500:
            raise Unavailable(f"Kafka Connect is busy: {_message(said)}")
        if answer.status >= 400 and answer.status != 404:
            raise Refused(f"{method} {path}: {answer.status} {_message(said)}")
        return answer.status, said


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    said = b""
    async for part in answer.content.iter_chunked(65_536):
        said += part
        if len(said) > _ANSWER_LIMIT_BYTES:
            raise Unavailable("Kafka Connect says more than it should")
    return said


def _message(said: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(said)
    except msgspec.DecodeError:
        found = None
    return str(found.get("message", "") if isinstance(found, dict) else said[:300].decode(errors="replace"))[:500]
