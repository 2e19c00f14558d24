"""What else goes on while facts are delivered: a long transaction next door, a poison key, a consumer that is off."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import msgspec

from doorbuster.drills.bench.events_place import RATE, SETTLE_S, Delivery, deliveries, listener, publish, until_passed
from doorbuster.drills.bench.events_process import POISON, Pace
from doorbuster.drills.events.history import quantile
from doorbuster.drills.events.parts import FAR, NEAR
from doorbuster.drills.events.place import NEIGHBOUR, Place, connect

POISON_PER_S = 20.0
_ROUNDS = 6
_BACK_S = 10.0


class Compared(msgspec.Struct, frozen=True):
    """Windows without and with a disturbance; the figures are medians over the windows."""

    calm: tuple[Delivery, ...]
    disturbed: tuple[Delivery, ...]

    @property
    def calm_p99_ms(self) -> float:
        return statistics.median(one.p99_ms for one in self.calm)

    @property
    def disturbed_p99_ms(self) -> float:
        return statistics.median(one.p99_ms for one in self.disturbed)

    @property
    def share(self) -> float:
        """What the disturbance adds at p99, as a share: the median over pairs of windows. Both of a pair were measured
        at the same time or one after the other, so that what else the machine did met both."""
        pairs = zip(self.calm, self.disturbed, strict=True)
        return statistics.median(disturbed.p99_ms / calm.p99_ms - 1 for calm, disturbed in pairs)


def together(one: Compared, other: Compared) -> Compared:
    """The windows of both."""
    return Compared(one.calm + other.calm, one.disturbed + other.disturbed)


class SwitchedOff(msgspec.Struct, frozen=True):
    """A consumer is off for `off_s` of load, then on again: what publisher and neighbour felt, and its return."""

    off_s: float
    missed: int
    caught_up_s: float
    """From its start until it had handled all that it missed, and what came meanwhile."""
    write_p99_ms: dict[str, float]
    """Of the publisher's transactions: `calm` while all hear, `off` while one is off, `back` while it catches up."""
    neighbour: Compared


async def long_transaction(place: Place, held_s: float, rate: float = RATE) -> Compared:
    """The same for `held_s` without, and then for `held_s` with a write transaction open in a neighbouring database."""
    async with listener(place) as (file, _):
        await publish(place, Pace(rate, 2.0, "warm"))
        await publish(place, Pace(rate, held_s, "calm"))
        neighbour = await connect(place.server.postgres, NEIGHBOUR)
        try:
            await neighbour.execute("CREATE TABLE note (n int); BEGIN; INSERT INTO note VALUES (1)")
            await publish(place, Pace(rate, held_s, "held"))
            await neighbour.execute("ROLLBACK")
        finally:
            neighbour.terminate()
        await asyncio.sleep(SETTLE_S)
    found = await deliveries(place, file)
    return Compared((found["calm"],), (found["held"],))


async def poison_key(place: Place, seconds: float, rate: float = RATE, refusing: str = FAR) -> Compared:
    """Two consumers hear the same facts at the same time, and one of them refuses one key.

    The figures are those of all other keys, in windows one after the other.
    """
    calm = NEAR if refusing == FAR else FAR
    labels = [f"{n}" for n in range(_ROUNDS)]
    async with listener(place, calm) as (calm_file, _), listener(place, refusing, refuses=POISON) as (file, _):
        await publish(place, Pace(rate, 2.0, "warm"))
        for label in labels:
            await publish(place, Pace(rate, seconds, label, poison=POISON_PER_S))
        await asyncio.sleep(SETTLE_S)
    heard, beside = await deliveries(place, calm_file), await deliveries(place, file)
    admin = await place.superuser(refusing)
    try:
        assert await admin.fetchval("SELECT count(*) FROM dead_letter WHERE key = $1", POISON), "nothing was refused"
    finally:
        admin.terminate()
    return Compared(tuple(heard[one] for one in labels), tuple(beside[one] for one in labels))


async def switched_off(place: Place, off_s: float, rate: float = RATE) -> SwitchedOff:
    """Two consumers hear; then one is off while the load goes on; then it is there again while the load goes on."""
    took = {label: place.folder / f"took-{label}.msgpack" for label in ("calm", "off", "back")}
    async with listener(place, NEAR) as (near_file, _):
        async with listener(place, FAR, effects=True):
            await publish(place, Pace(rate, 2.0, "warm"))
            await publish(place, Pace(rate, off_s, "calm", file=str(took["calm"])))
            await asyncio.sleep(SETTLE_S)
        await publish(place, Pace(rate, off_s, "off", file=str(took["off"])))
        back = Pace(rate, min(off_s, _BACK_S), "back", file=str(took["back"]))
        loading = asyncio.create_task(publish(place, back))
        began = time.monotonic()
        async with listener(place, FAR, effects=True) as (_, process):
            await loading
            await until_passed(place, FAR, process, within_s=off_s + 60)
            caught_up_s = time.monotonic() - began
        await asyncio.sleep(SETTLE_S)
    near = await deliveries(place, near_file)
    await _all_had_their_effect(place, sum(one.events for one in near.values()))
    return SwitchedOff(
        off_s=off_s,
        missed=near["off"].events,
        caught_up_s=round(caught_up_s, 1),
        write_p99_ms={label: _p99(file) for label, file in took.items()},
        neighbour=Compared((near["calm"],), (near["off"],)),
    )


async def _all_had_their_effect(place: Place, due: int) -> None:
    admin = await place.superuser(FAR)
    try:
        handled = await admin.fetchval("SELECT count(*) FROM effect")
    finally:
        admin.terminate()
    assert handled == due, f"{handled} of {due} facts had their effect in the consumer that was off"


def _p99(file: Path) -> float:
    return round(quantile(sorted(msgspec.msgpack.decode(file.read_bytes(), type=list[float])), 0.99), 2)
