"""What the payment router adds to an attempt: a decision and its count, at a steady rate, the provider's time left out.

One process decides as a worker does (uvloop, health shared through PostgreSQL, rules that are stored there); nothing is
sent. `python -m doorbuster.drills.bench.router SETTINGS LOAD FILE` is that process.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import uvloop

from doorbuster.drills.events.history import quantile
from doorbuster.engines import payment_router
from doorbuster.engines.embedded import PostgresServer, ensure_database, temporary_postgres
from doorbuster.engines.payment_router import Outcome, PaymentFacts, Result, SharedDatabase
from doorbuster.engines.payment_router.routing import Condition, Priority, RoutingRules, Rule, Weights
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.migrations import DomainSchema, migrate
from doorbuster.platform.settings import DatabaseLogin, ProviderLogin, Settings

P99_MS = 2.0
RATE = 500.0
_DOMAIN = "bench.payment"
_DATABASE, _SCHEMA, _ROLE = "bench", "payment", "bench_payment"
_TIMEOUT_S = 20.0
_SETTLE_S = 10.0
ACCOUNTS = {kind: ProviderLogin("http://127.0.0.1:9", "unused") for kind in ("toss", "nicepay", "stripe", "sandbox")}
"""Nothing is sent to these: a decision asks what an account can do, and not the account."""
_TRIED = ("toss", "nicepay", "stripe")
_MERCHANTS = ("", "", "", "", "", "north", "south", "west")
_OUTCOMES = (Outcome.SUCCEEDED,) * 90 + (Outcome.DECLINED,) * 9 + (Outcome.UNKNOWN,)
"""One in a hundred is a failure: those make the router look at the circuit at once."""
RULES = RoutingRules(
    1,
    Weights({"toss": 50, "nicepay": 30, "stripe": 15, "sandbox": 5}),
    (
        Rule("instalments", Condition(methods=("card",), instalments_from=2), Weights({"toss": 2, "nicepay": 1})),
        Rule("dollars", Condition(currencies=("USD", "EUR")), Priority(("stripe", "sandbox"))),
        Rule("north", Condition(merchants=("north",), currencies=("KRW",)), Weights({"nicepay": 7, "toss": 3})),
        Rule("large", Condition(amount_from_minor=1_000_000), Priority(("nicepay", "toss", "stripe", "sandbox"))),
        Rule("app", Condition(channels=("app",)), Weights({"toss": 40, "nicepay": 40, "stripe": 10, "sandbox": 10})),
    ),
)


class Load(msgspec.Struct, frozen=True):
    """So many decisions a second; `repeats` windows of `seconds` are counted, after one that is not."""

    rate: float = RATE
    seconds: float = 8.0
    repeats: int = 3
    warmup_s: float = 3.0

    def __post_init__(self) -> None:
        # The router keeps counts for two minutes, and at the end all of them are looked for.
        assert self.rate > 0 and self.seconds > 0 and self.warmup_s + self.repeats * self.seconds < 90


class Window(msgspec.Struct, frozen=True):
    """One window: how many were decided, and how long after each was due its answer was counted, in ms."""

    decisions: int
    p50_ms: float
    p99_ms: float


class RouterFigures(msgspec.Struct, frozen=True):
    """What the router costs an attempt on this machine, in ms from when the attempt was due; medians over windows."""

    rate: float
    windows: tuple[Window, ...]

    @property
    def p50_ms(self) -> float:
        return statistics.median(one.p50_ms for one in self.windows)

    @property
    def p99_ms(self) -> float:
        return statistics.median(one.p99_ms for one in self.windows)


class Attempt(msgspec.Struct, frozen=True):
    """What is decided: a payment, the accounts it was at already, and what the next one will say."""

    facts: PaymentFacts
    tried: tuple[str, ...]
    result: Result


async def measure(load: Load) -> RouterFigures:
    """Decide in a process of its own, beside a fresh PostgreSQL. AssertionError when that process ends badly."""
    with tempfile.TemporaryDirectory(prefix="doorbuster-bench-") as folder:
        async with temporary_postgres() as server:
            told = await _furnish(server, Path(folder))
            file = Path(folder) / "windows.json"
            argv = ("-m", "doorbuster.drills.bench.router", str(told), msgspec.json.encode(load).decode(), str(file))
            process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdin=asyncio.subprocess.DEVNULL)
            try:
                within_s = load.warmup_s + load.repeats * (load.seconds + _SETTLE_S) + 60
                code = await asyncio.wait_for(process.wait(), within_s)
                assert code == 0, f"the deciding process ended with {code}"
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            windows = msgspec.json.decode(file.read_bytes(), type=tuple[Window, ...])
    return RouterFigures(load.rate, windows)


async def _furnish(server: PostgresServer, folder: Path) -> Path:
    """The router's tables as the paying domain has them; the settings file of the deciding process."""
    password = secrets.token_urlsafe(16)
    await ensure_database(server, _DATABASE)
    admin = await _connect(server)
    try:
        await migrate(admin, [DomainSchema(_SCHEMA, _ROLE, password, payment_router.SCHEMA_FILES)], [])
        await admin.execute(f'GRANT CONNECT ON DATABASE "{_DATABASE}" TO "{_ROLE}"')
    finally:
        await admin.close(timeout=_TIMEOUT_S)
    login = DatabaseLogin(str(server.socket_dir), _DATABASE, _ROLE, password, schema=_SCHEMA)
    told = folder / "settings.json"
    settings.write(Settings(databases={_DOMAIN: login}, providers=ACCOUNTS, log_level="warning"), told)
    return told


async def _connect(server: PostgresServer) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(
        server.dsn(database=_DATABASE), timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S,
        server_settings={"search_path": "public"},
    )  # fmt: skip


def attempts(count: int, seed: str) -> list[Attempt]:
    """Payments of all kinds that the rules tell apart; one in fifty was at another account before."""
    dice = random.Random(seed)  # noqa: S311  (a repeatable load, no secret)
    made = []
    for _ in range(count):
        dollars, amount = dice.random() < 0.2, dice.choice((5_000, 50_000, 300_000, 2_000_000))
        tried = (dice.choice(_TRIED),) if dice.random() < 0.02 else ()
        # The branch of instalments has two accounts, which give none in dollars nor for little; nobody would be left.
        months = 0 if dollars or tried or amount < 50_000 else dice.choice((0, 0, 0, 3))
        facts = PaymentFacts(
            payment_id=UUID(int=dice.getrandbits(128)),
            method="card",
            currency="USD" if dollars else "KRW",
            amount_minor=amount,
            instalments=months,
            merchant=dice.choice(_MERCHANTS),
            channel=dice.choice(("web", "app")),
        )
        made.append(Attempt(facts, tried, Result(dice.choice(_OUTCOMES))))
    return made


async def decide(load: Load, seconds: float, label: str) -> list[float]:
    """An open loop: what is late stays due, so that a slow router is not spared. Latencies in ms, in order of size."""
    shared = SharedDatabase(db.of(_DOMAIN))
    loop = asyncio.get_running_loop()
    wanted = attempts(round(load.rate * seconds), label)
    took_ms: list[float] = []
    running: set[asyncio.Task[None]] = set()
    failed: list[BaseException] = []

    async def attempt(one: Attempt, due: float) -> None:
        chosen = await payment_router.choose(one.facts, shared, one.tried, ACCOUNTS)
        assert chosen.provider and chosen.decision.rules_version == RULES.version, chosen
        await payment_router.note(chosen, one.result)
        took_ms.append((time.monotonic() - due) * 1_000)

    def begin(one: Attempt, due: float) -> None:
        task = loop.create_task(attempt(one, due))
        running.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if (error := task.exception()) is not None:
            failed.append(error)

    def pace() -> None:
        # A thread, because uvloop's timers count whole milliseconds; requests come to a worker between them.
        start = time.monotonic() + 0.1
        for number, one in enumerate(wanted):
            due = start + number / load.rate
            time.sleep(max(0.0, due - time.monotonic()))
            loop.call_soon_threadsafe(begin, one, due)

    pacer = threading.Thread(target=pace, daemon=True)
    pacer.start()
    async with asyncio.timeout(seconds + _SETTLE_S):
        while len(took_ms) < len(wanted):
            await asyncio.sleep(0.05)
            if failed:
                raise failed[0]
    return sorted(took_ms)


async def main(load: Load, file: Path) -> None:
    """Put the rules in force, warm up, measure each window, and tell the database all before the end."""
    shared = SharedDatabase(db.of(_DOMAIN))
    assert await shared.write_rules(RULES, "bench", "several branches")
    await decide(load, load.warmup_s, "warm")
    _settle_memory()
    windows = []
    for number in range(load.repeats):
        took_ms = await decide(load, load.seconds, f"window {number}")
        p50, p99 = quantile(took_ms, 0.5), quantile(took_ms, 0.99)
        windows.append(Window(len(took_ms), round(p50, 3), round(p99, 3)))
    await _until_shared(round(load.rate * load.warmup_s) + sum(one.decisions for one in windows))
    await payment_router.close()
    await db.close_all()
    file.write_bytes(msgspec.json.encode(windows))


async def _until_shared(answers: int) -> None:
    """The measured way was the workers' way only if the database has heard of every answer. TimeoutError if not."""
    heard = "SELECT coalesce(sum(good + failed), 0)::bigint FROM provider_answers WHERE merchant = ''"
    async with asyncio.timeout(_SETTLE_S):
        while (await db.of(_DOMAIN).fetch(heard))[0][0] != answers:
            await asyncio.sleep(0.1)


def _settle_memory() -> None:
    """As a worker does once it is up (app.py): what is there already is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    telemetry.configure("critical")
    uvloop.run(main(msgspec.json.decode(sys.argv[2], type=Load), Path(sys.argv[3])))
