"""The drill's accounts at payment providers: each a simulator process of its own, with its own secret and ledger."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from doorbuster.drills.psp import kinds
from doorbuster.drills.psp.kinds import KINDS, SANDBOX

_START_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0
_POLL_S = 0.02
_TIMEOUT = aiohttp.ClientTimeout(total=20)
_PAGE = 1_000
_MAX_PAGES = 2_000
CALM: Mapping[str, object] = {"latency_ms": 10, "jitter_ms": 15}
"""A provider on a good day."""
WEIGHTS: Mapping[int, tuple[int, ...]] = {1: (100,), 2: (60, 40), 3: (50, 30, 20), 4: (40, 30, 20, 10)}
"""By number of accounts, the weight of each. The first is the one that fails: the loss is the largest there."""


class Account(msgspec.Struct, frozen=True):
    """One account: its name in the shop's settings, the language it speaks, its weight in the rules."""

    name: str
    kind: str
    weight: int


class AccountDown(Exception):
    """A simulator did not start, or does not answer although it should."""


def accounts(number: int, of_kinds: Sequence[str] = (SANDBOX,)) -> tuple[Account, ...]:
    """`psp-a`, `psp-b`, … with the weights of so many, all of the one kind; or one account for each of several kinds,
    whatever the number. Raises ValueError for a number that has no weights."""
    wanted = list(of_kinds) if len(of_kinds) > 1 else [of_kinds[0]] * number
    if len(wanted) not in WEIGHTS:
        raise ValueError(f"the drill has {min(WEIGHTS)} to {max(WEIGHTS)} providers, not {len(wanted)}")
    names = wanted if len(set(wanted)) == len(wanted) > 1 else [f"psp-{chr(ord('a') + n)}" for n in range(len(wanted))]
    return tuple(
        Account(name, kind, weight) for name, kind, weight in zip(names, wanted, WEIGHTS[len(wanted)], strict=True)
    )


class Simulator:
    """Guards the process of one account; killed and started again it has the same port and the same ledger."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account = account
        self.url = ""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.secret_file = folder / f"{account.name}.secret"
        self.secret_file.touch(mode=0o600)
        self._secret = secrets.token_urlsafe(24)
        self.secret_file.write_text(self._secret)

    @property
    def login(self) -> dict[str, str]:
        """What the shop's settings say of this account."""
        return {
            "base_url": self.url, "secret_file": str(self.secret_file), "kind": self.account.kind,
            "client_key": KINDS[self.account.kind].client_key,
        }  # fmt: skip

    @property
    def headers(self) -> dict[str, str]:
        """What every request to it carries: the secret, as the account's owner."""
        return {"authorization": f"Bearer {self._secret}", "content-type": "application/json"}

    def start(self, faults: Mapping[str, object] = CALM) -> None:
        """Start it, or start it again, and wait until it listens. Raises AccountDown."""
        ready = self._folder / f"{self.account.name}.ready"
        ready.unlink(missing_ok=True)
        with (self._folder / f"{self.account.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", KINDS[self.account.kind].module, *KINDS[self.account.kind].options,
                    "--port", self.url.rsplit(":", 1)[-1] if self.url else "0",
                    "--ledger", str(self._folder / f"{self.account.name}.ledger"),
                    "--secret-file", str(self.secret_file), "--ready-file", str(ready),
                    "--faults", msgspec.json.encode(faults).decode(),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        give_up = time.monotonic() + _START_WITHIN_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.stop()
                raise AccountDown(f"the simulator of {self.account.name} did not start")
            time.sleep(_POLL_S)
        where = msgspec.json.decode(ready.read_bytes())
        self.url = f"http://{where['host']}:{where['port']}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process, if it runs: with SIGKILL its connections are cut, and new ones refused from then on."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_WITHIN_S)

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    async def behave(self, faults: Mapping[str, object]) -> None:
        """Replace its faults; what is not named goes back to none."""
        await self.call("PUT", "/admin/faults", faults)

    async def captured(self) -> int | None:
        """How many charges its ledger has captured; None while it is away."""
        try:
            return int((await self.call("GET", f"{KINDS[self.account.kind].books}/summary"))["captured"])
        except AccountDown:
            return None

    async def charges(self) -> list[dict[str, Any]]:
        """Every charge in the order it was recorded, captured and declined, in the words of the sandbox's ledger."""
        if self.account.kind == SANDBOX:
            return await self._ledger("/v1/ledger/charges")
        return kinds.as_charges(
            await self._ledger("/admin/ledger/captures"), await self._ledger("/admin/ledger/declines")
        )

    async def card(self) -> kinds.Card:
        """A card that is known here and pays."""
        return await KINDS[self.account.kind].register(self.call, self._secret)

    async def _ledger(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: int | None = 0
        for _ in range(_MAX_PAGES):
            page = await self.call("GET", f"{path}?after={after}&limit={_PAGE}")
            found += page["data"]
            after = page["next_after"]
            if after is None:
                return found
        raise AccountDown(f"the ledger of {self.account.name} has more than {_MAX_PAGES * _PAGE} charges")

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One request as the account's owner. Raises AccountDown for any refusal and when nobody answers."""
        content = None if body is None else msgspec.json.encode(body)
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=self.headers | dict(headers or {})) as session,
                session.request(method, self.url + path, data=content) as answer,
            ):
                answer.raise_for_status()
                decoded: dict[str, Any] = msgspec.json.decode(await answer.read())
                return decoded
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise AccountDown(f"{self.account.name} does not answer {method} {path}: {error!r}") from error


class Simulators:
    """Guards all simulators of a drill."""

    def __init__(self, all_: tuple[Simulator, ...]) -> None:
        self.all = all_

    def __getitem__(self, name: str) -> Simulator:
        return next(one for one in self.all if one.account.name == name)


@contextmanager
def running_simulators(wanted: Sequence[Account]) -> Iterator[Simulators]:
    """A process for each account, with an empty ledger, in a folder of their own; none is left at the end. Raises
    AccountDown."""
    with tempfile.TemporaryDirectory(prefix="doorbuster-psp-") as folder:
        found = Simulators(tuple(Simulator(account, Path(folder)) for account in wanted))
        try:
            for one in found.all:
                one.start()
            yield found
        finally:
            for one in found.all:
                one.stop()
