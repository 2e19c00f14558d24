"""A shadow hears everything again beside the shop, and says where its tables differ from the real ones."""

from __future__ import annotations

import pytest

from doorbuster.engines.event_log import shadow
from doorbuster.engines.event_log.tests import consumer_process
from doorbuster.engines.event_log.tests.history import Log, all_handled, count_up, until, write_busily
from doorbuster.platform import clock


async def prepare(log: Log) -> None:
    """A table that handlers fill and whose rows do not depend on when."""
    role = await log.admin.fetchval("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sub'")
    await log.admin.execute("DROP TABLE sub.effect; CREATE TABLE sub.effect (key text, number int, id int DEFAULT 1)")
    await log.admin.execute(f"ALTER TABLE sub.effect OWNER TO {role}")


async def test_a_shadow_of_a_sound_consumer_equals_it(log: Log) -> None:
    await prepare(log)
    reader = await log.reader(lease_s=0.6)
    await write_busily(600, seed=2)
    await until(lambda: all_handled(log))
    await reader.stop()
    found = await shadow.run_shadow(log.admin, consumer_process.subscription(), "again", within_s=30)
    rows = len(await log.effects())
    assert found.schema == "sub_again"
    assert [(t.table, t.rows, t.shadow_rows, t.is_equal) for t in found.tables] == [
        ("dead_letter", 0, 0, True),
        ("effect", rows, rows, True),
    ]
    assert rows > 500
    assert len(await log.effects()) == rows
    with pytest.raises(shadow.NoShadow, match="already"):
        await shadow.run_shadow(log.admin, consumer_process.subscription(), "again")
    await shadow.drop_shadow(log.admin, "test.sub", "again")
    assert await log.admin.fetchval("SELECT to_regnamespace('sub_again') IS NULL")


async def test_a_shadow_finds_a_row_that_was_changed_behind_the_consumers_back(log: Log) -> None:
    await prepare(log)
    reader = await log.reader(lease_s=0.6)
    for _ in range(3):
        await count_up("1")
    await until(lambda: all_handled(log))
    await reader.stop()
    await log.admin.execute("UPDATE sub.effect SET number = 7 WHERE number = 2")
    found = await shadow.run_shadow(log.admin, consumer_process.subscription(), "check", within_s=30)
    assert [(t.table, t.is_equal) for t in found.tables] == [("dead_letter", True), ("effect", False)]


async def test_a_shadow_since_a_time_hears_only_what_is_younger(log: Log) -> None:
    await prepare(log)
    reader = await log.reader(lease_s=0.6)
    await count_up("1")
    await until(lambda: all_handled(log))
    since = clock.utc_now()
    await count_up("1")
    await until(lambda: all_handled(log))
    await reader.stop()
    found = await shadow.run_shadow(log.admin, consumer_process.subscription(), "late", since, within_s=30)
    assert found.tables[1].shadow_rows == 1
    none = await shadow.run_shadow(log.admin, consumer_process.subscription(), "none", clock.utc_now(), within_s=30)
    assert none.tables[1].shadow_rows == 0


@pytest.mark.parametrize("name", ["", "A", 'x"; DROP SCHEMA sub', "1st", "x" * 40])
async def test_a_shadow_needs_a_plain_name(log: Log, name: str) -> None:
    with pytest.raises(shadow.NoShadow, match="no name"):
        await shadow.run_shadow(log.admin, consumer_process.subscription(), name)
    with pytest.raises(shadow.NoShadow):
        await shadow.drop_shadow(log.admin, "test.sub", "absent")
