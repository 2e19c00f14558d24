"""What the catalogue does for others: read items and options, make and replace items, import many at once."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from doorbuster.domains.item.catalog import events, rules, store
from doorbuster.domains.item.catalog.errors import HandleTaken, UnknownItem
from doorbuster.domains.item.catalog.models import (
    MAX_IMPORT_ITEMS,
    ImportedItem,
    ImportedOption,
    Item,
    ItemCard,
    ItemDraft,
    ItemFilter,
    OptionRef,
    PageStart,
)
from doorbuster.engines import event_log
from doorbuster.platform import ids
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.clock import utc_now
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import InvalidRequest, PreconditionFailed, Unavailable

MAX_PAGE = 100
MAX_OPTION_REFS = 20_000
_IMPORT_TRIES = 3


@query
async def get_item(ctx: Ctx, item_id: UUID) -> Item:
    """The item with all its options, whatever its status. Refuses `UnknownItem`."""
    found = await store.find_items([item_id])
    if not found:
        raise UnknownItem(item_id=str(item_id))
    return found[0]


@query
async def get_items(ctx: Ctx, item_ids: tuple[UUID, ...]) -> tuple[Item, ...]:
    """The items that exist among these (at most 2,000), in the order asked."""
    _limit("items", len(item_ids), MAX_IMPORT_ITEMS)
    found = {item.id: item for item in await store.find_items(item_ids)}
    return tuple(found[item_id] for item_id in dict.fromkeys(item_ids) if item_id in found)


@query
async def options_of(ctx: Ctx, option_ids: tuple[UUID, ...]) -> list[OptionRef]:
    """The options that exist among these (at most 20,000), sold or not, in the order asked."""
    _limit("options", len(option_ids), MAX_OPTION_REFS)
    found = {option.option_id: option for option in await store.find_options(option_ids)}
    return [found[option_id] for option_id in dict.fromkeys(option_ids) if option_id in found]


@query
async def list_items(ctx: Ctx, wanted: ItemFilter, after: PageStart | None, limit: int) -> list[ItemCard]:
    """Active items, newest first, after the given one; at most `limit` (1..100)."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"A page has 1 to {MAX_PAGE} items")
    if after is not None and not 1970 <= after.created_at.year <= 2200:
        raise InvalidRequest("This cursor was not made by this shop; start again without one")
    return await store.find_cards(wanted, after, limit)


@command
async def create_item(ctx: Ctx, draft: ItemDraft) -> Item:
    """Make an item. Its handle is its natural key: the second of two equal commands is refused with `HandleTaken`."""
    draft = rules.tidied(draft)
    rules.check(draft)
    item = rules.becomes(draft, None, _fresh(draft), utc_now())
    async with store.writing() as conn:
        try:
            await _put(conn, [item])
        except asyncpg.UniqueViolationError as error:
            raise HandleTaken(handle=draft.handle) from error
    return item


@command
async def replace_item(ctx: Ctx, item_id: UUID, expected_version: int, draft: ItemDraft) -> Item:
    """Replace an item whole. Options keep their ids (matched by id, else by values); one left out becomes inactive.

    Refuses `PreconditionFailed` when the item is no longer at `expected_version`, `HandleTaken`, `UnknownItem`.
    """
    draft = rules.tidied(draft)
    rules.check(draft)
    async with store.writing() as conn:
        before = await store.lock_item(conn, item_id)
        if before is None:
            raise UnknownItem(item_id=str(item_id))
        if before.version != expected_version:
            raise PreconditionFailed(
                "Read it again, put your change on top, and send the new ETag", current=before.version
            )
        after = rules.becomes(draft, before, _fresh(draft), utc_now())
        if after.version == before.version:
            return before
        try:
            await _put(conn, [after])
        except asyncpg.UniqueViolationError as error:
            raise HandleTaken(handle=draft.handle) from error
    # An item that was taken off sale must not be sold for longer than it takes price to hear of it.
    event_log.nudge(events.TOPIC)
    return after


@command
async def import_items(ctx: Ctx, drafts: tuple[ItemDraft, ...]) -> list[ImportedItem]:
    """Make or replace items by handle, all or none, at most 2,000; running it again changes nothing."""
    _limit("items", len(drafts), MAX_IMPORT_ITEMS)
    drafts = tuple(rules.tidied(draft) for draft in drafts)
    for draft in drafts:
        rules.check(draft)
    rules.handles_are_distinct(drafts)
    for _ in range(_IMPORT_TRIES):
        try:
            return await _import_once(drafts)
        except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
            continue  # somebody made one of these handles between our look and our insert; now we see it
    raise Unavailable("Others are changing the same items")


async def _import_once(drafts: Sequence[ItemDraft]) -> list[ImportedItem]:
    async with store.writing() as conn:
        before = await store.lock_handles(conn, [draft.handle for draft in drafts])
        now = utc_now()
        after = [rules.becomes(draft, before.get(draft.handle), _fresh(draft), now) for draft in drafts]
        await _put(conn, [item for item in after if item != before.get(item.handle)])
    return [_imported(item, before.get(item.handle)) for item in after]


async def _put(conn: Conn, items: Sequence[Item]) -> None:
    if not items:
        return
    item_ids = [item.id for item in items]
    await store.put_items(conn, items)
    await store.retire_options(conn, item_ids)
    await store.put_options(conn, items)
    await store.drop_media(conn, item_ids)
    await store.put_media(conn, items)
    await event_log.publish(conn, [events.fact(item) for item in items])


def _imported(item: Item, before: Item | None) -> ImportedItem:
    return ImportedItem(
        handle=item.handle,
        item_id=item.id,
        outcome="created" if before is None else "unchanged" if before == item else "updated",
        version=item.version,
        options=tuple(ImportedOption(option.id, option.values) for option in item.options if option.active),
    )


def _fresh(draft: ItemDraft) -> list[UUID]:
    return [ids.uuid7() for _ in range(len(draft.options) + 1)]


def _limit(what: str, count: int, at_most: int) -> None:
    if count > at_most:
        raise InvalidRequest(f"At most {at_most} {what} at once; {count} were sent")
