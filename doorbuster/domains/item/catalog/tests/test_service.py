"""The catalogue's verbs on real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from doorbuster.domains.item import catalog
from doorbuster.domains.item.catalog import ItemDraft, ItemFilter, MediaDraft, OptionDraft, PageStart
from doorbuster.domains.item.catalog.store import DB
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import InvalidRequest, PreconditionFailed


def draft(**changes: Any) -> ItemDraft:
    whole = ItemDraft(
        handle=f"item-{ids.uuid7()}",
        title="Harbor Court",
        description="<p>Suède & gum</p>",
        brand="Harbor",
        category="Shoes",
        tags=("new", "court"),
        status="active",
        option_names=("Color", "Size"),
        options=tuple(OptionDraft((color, size), sku=f"{color}-{size}") for color in "BW" for size in ("240", "250")),
        media=(MediaDraft("https://example.com/a.jpg", "front"), MediaDraft("/api/v1/catalog/media/b.svg")),
    )
    return replace(whole, **changes)


async def facts_of(item_id: UUID) -> list[int]:
    rows = await DB.fetch("SELECT aggregate_version FROM outbox WHERE key = $1 ORDER BY seq", str(item_id))
    return [row[0] for row in rows]


async def test_item_reads_back_as_it_was_made() -> None:
    made = await catalog.create_item(SYSTEM, draft())
    assert await catalog.get_item(SYSTEM, made.id) == made
    assert await facts_of(made.id) == [1]


async def test_taken_handle_is_refused_and_changes_nothing() -> None:
    made = await catalog.create_item(SYSTEM, draft())
    with pytest.raises(catalog.HandleTaken):
        await catalog.create_item(SYSTEM, draft(handle=made.handle, title="Other"))
    other = await catalog.create_item(SYSTEM, draft())
    with pytest.raises(catalog.HandleTaken):
        await catalog.replace_item(SYSTEM, other.id, other.version, draft(handle=made.handle))
    assert await catalog.get_item(SYSTEM, other.id) == other


async def test_unknown_item_is_refused() -> None:
    with pytest.raises(catalog.UnknownItem):
        await catalog.get_item(SYSTEM, ids.uuid7())
    with pytest.raises(catalog.UnknownItem):
        await catalog.replace_item(SYSTEM, ids.uuid7(), 1, draft())


async def test_replaced_item_reads_back_and_its_options_swap_values() -> None:
    made = await catalog.create_item(SYSTEM, draft())
    first, second, third, fourth = made.options
    wanted = draft(
        handle=made.handle,
        options=(
            OptionDraft(second.values, id=first.id),
            OptionDraft(first.values, id=second.id),
            OptionDraft(third.values),
            OptionDraft(("R", "240")),
        ),
        media=(),
    )
    after = await catalog.replace_item(SYSTEM, made.id, 1, wanted)
    assert await catalog.get_item(SYSTEM, made.id) == after
    assert [option.active for option in after.options] == [True, True, True, True, False]
    assert [option.id for option in after.options][:3] == [first.id, second.id, third.id]
    assert after.options[4].id == fourth.id
    assert await facts_of(made.id) == [1, 2]


async def test_same_content_makes_no_version_and_no_fact() -> None:
    wanted = draft()
    made = await catalog.create_item(SYSTEM, wanted)
    assert await catalog.replace_item(SYSTEM, made.id, 1, wanted) == made
    assert await facts_of(made.id) == [1]


async def test_of_two_edits_at_once_one_wins() -> None:
    made = await catalog.create_item(SYSTEM, draft())
    edits = [
        catalog.replace_item(SYSTEM, made.id, 1, draft(handle=made.handle, title=f"Edit {number}"))
        for number in range(8)
    ]
    ends = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(end, PreconditionFailed) for end in ends) == 7
    winner = next(end for end in ends if isinstance(end, catalog.Item))
    assert await catalog.get_item(SYSTEM, made.id) == winner


async def test_import_makes_updates_and_leaves() -> None:
    kept, changed, new = draft(), draft(), draft()
    await catalog.import_items(SYSTEM, (kept, changed))
    answers = await catalog.import_items(SYSTEM, (kept, replace(changed, title="Other"), new))
    assert [answer.outcome for answer in answers] == ["unchanged", "updated", "created"]
    assert [answer.version for answer in answers] == [1, 2, 1]
    again = await catalog.import_items(SYSTEM, (kept, replace(changed, title="Other"), new))
    assert [answer.outcome for answer in again] == ["unchanged"] * 3
    assert [answer.options for answer in again] == [answer.options for answer in answers]
    assert [option.values for option in again[0].options] == [option.values for option in kept.options]


async def test_import_is_all_or_nothing() -> None:
    good, bad = draft(), draft(options=(OptionDraft(("B", "1")), OptionDraft(("B", "1"))))
    with pytest.raises(catalog.DuplicateOption):
        await catalog.import_items(SYSTEM, (good, bad))
    assert await catalog.list_items(SYSTEM, ItemFilter(handle=good.handle), None, 10) == []


async def test_imports_at_once_in_opposite_order_agree() -> None:
    drafts = tuple(draft() for _ in range(30))
    ends = await asyncio.gather(*(catalog.import_items(SYSTEM, drafts[:: 1 if turn % 2 else -1]) for turn in range(6)))
    by_handle = [{answer.handle: answer.item_id for answer in end} for end in ends]
    assert all(one == by_handle[0] for one in by_handle)
    assert sum(answer.outcome == "created" for end in ends for answer in end) == len(drafts)


async def test_list_pages_through_every_active_item_once() -> None:
    brand = f"Brand {ids.uuid7()}"
    made = [await catalog.create_item(SYSTEM, draft(brand=brand)) for _ in range(7)]
    await catalog.create_item(SYSTEM, draft(brand=brand, status="draft"))
    await catalog.create_item(SYSTEM, draft(brand=brand, status="archived"))
    seen: list[UUID] = []
    after = None
    while page := await catalog.list_items(SYSTEM, ItemFilter(brand=brand), after, 3):
        seen += [card.id for card in page]
        after = PageStart(page[-1].created_at, page[-1].id)
    assert seen == [item.id for item in reversed(made)]
    assert page == []


async def test_list_narrows_by_category_and_handle() -> None:
    category = f"Category {ids.uuid7()}"
    made = await catalog.create_item(SYSTEM, draft(category=category))
    await catalog.create_item(SYSTEM, draft())
    for wanted in (ItemFilter(category=category), ItemFilter(handle=made.handle)):
        cards = await catalog.list_items(SYSTEM, wanted, None, 10)
        assert [card.id for card in cards] == [made.id]
        assert cards[0].media == made.media[0]


async def test_options_are_named_with_their_item_and_whether_they_are_sold() -> None:
    item = await catalog.create_item(SYSTEM, draft())
    hidden = await catalog.create_item(SYSTEM, draft(status="archived"))
    asked = (hidden.options[0].id, ids.uuid7(), item.options[1].id)
    refs = await catalog.options_of(SYSTEM, asked)
    assert [(ref.option_id, ref.item_id, ref.active) for ref in refs] == [
        (asked[0], hidden.id, False),
        (asked[2], item.id, True),
    ]
    assert refs[1].values == item.options[1].values
    found = await catalog.get_items(SYSTEM, (hidden.id, ids.uuid7(), item.id))
    assert [one.id for one in found] == [hidden.id, item.id]


async def test_too_much_at_once_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        await catalog.import_items(SYSTEM, (draft(),) * 2_001)
    with pytest.raises(InvalidRequest):
        await catalog.list_items(SYSTEM, ItemFilter(), None, 101)


async def test_fact_names_the_options_that_are_sold() -> None:
    made = await catalog.create_item(SYSTEM, draft())
    after = await catalog.replace_item(SYSTEM, made.id, 1, draft(handle=made.handle, options=draft().options[:2]))
    row = await DB.fetchrow("SELECT payload FROM outbox WHERE key = $1 AND aggregate_version = 2", str(made.id))
    assert row is not None
    fact = msgspec.json.decode(row[0], type=catalog.ItemChanged)
    assert fact.option_ids == tuple(option.id for option in after.options[:2])
