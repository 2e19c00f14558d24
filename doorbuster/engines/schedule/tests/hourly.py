"""An hourly job whose ticks tests make come, work that fails until it is mended, and waiting for ends."""

from __future__ import annotations

from doorbuster.engines.schedule import Every, Job, Run
from doorbuster.engines.schedule.job import Work
from doorbuster.engines.schedule.tests.books import DOMAIN, Books, effect, until


async def one_effect(run: Run) -> None:
    async with run.chunk("all") as conn:
        if conn is not None:
            await effect(conn, run.job, run.scheduled_for, "all")


def hourly(work: Work = one_effect, **how: object) -> Job:
    return Job("hourly", DOMAIN, Every(3_600), work, **how)  # type: ignore[arg-type]


async def off_for(books: Books, job: Job, interval: str) -> None:
    """The job was known, and then nobody was there to run it."""
    scheduler = await books.scheduler(job)

    async def known() -> bool:
        return bool(await books.admin.fetchval("SELECT count(*) FROM batch_job WHERE job = $1", job.name))

    await until(known)
    await scheduler.stop()
    await books.missed_for(job.name, interval)


async def settled(books: Books, job: str, count: int, within_s: float = 10) -> list[str]:
    """The states of its ticks once so many have ended."""

    async def ended() -> bool:
        return sum(state in ("done", "failed", "skipped") for state in await books.states(job)) >= count

    await until(ended, within_s)
    return await books.states(job)


class Brittle:
    """Work that fails at its second chunk until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    async def __call__(self, run: Run) -> None:
        for key in ("first", "second"):
            async with run.chunk(key) as conn:
                if conn is not None:
                    run.note(**{key: run.attempt})
                    await effect(conn, run.job, run.scheduled_for, key)
                    if key == "second" and not self.mended:
                        raise ValueError("the second cannot be done")
