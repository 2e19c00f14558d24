"""Pure decisions of the catalogue: is a draft sound, which option is which, what an item becomes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from doorbuster.domains.item.catalog.errors import DuplicateHandle, DuplicateOption, InvalidItem
from doorbuster.domains.item.catalog.models import (
    MAX_DESCRIPTION_BYTES,
    Item,
    ItemDraft,
    Media,
    Option,
    OptionDraft,
)

_NO_CHOICE = (OptionDraft(),)


def tidied(draft: ItemDraft) -> ItemDraft:
    """The draft with one spelling for equal text (NFC, no blanks around), and with its one option if it named none."""
    options = draft.options if draft.options or draft.option_names else _NO_CHOICE
    return replace(
        draft,
        handle=_tidy(draft.handle),
        title=_tidy(draft.title),
        brand=_tidy(draft.brand),
        category=_tidy(draft.category),
        tags=tuple(dict.fromkeys(_tidy(tag) for tag in draft.tags)),
        option_names=tuple(_tidy(name) for name in draft.option_names),
        options=tuple(replace(one, values=tuple(_tidy(value) for value in one.values)) for one in options),
    )


def _tidy(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def check(draft: ItemDraft) -> None:
    """Refuse a tidied draft that contradicts itself: `InvalidItem`, `DuplicateOption`."""
    _check_handle(draft.handle)
    if not draft.title or not all(draft.tags) or not all(draft.option_names):
        raise InvalidItem("Title, tags and option names must not be blank", handle=draft.handle)
    if len(draft.description.encode()) > MAX_DESCRIPTION_BYTES:
        raise InvalidItem(f"The description is longer than {MAX_DESCRIPTION_BYTES // 1024} KiB", handle=draft.handle)
    if len(set(draft.option_names)) != len(draft.option_names):
        raise InvalidItem("Two option names are equal", handle=draft.handle)
    if not draft.options:
        raise InvalidItem("An item with option names needs at least one option", handle=draft.handle)
    for option in draft.options:
        if len(option.values) != len(draft.option_names) or not all(option.values):
            names = ", ".join(draft.option_names) or "none, as the item has no option names"
            raise InvalidItem(f"Each option needs one value for each of: {names}", handle=draft.handle)
    values = [option.values for option in draft.options]
    named = [option.id for option in draft.options if option.id is not None]
    if len(set(values)) != len(values) or len(set(named)) != len(named):
        raise DuplicateOption(handle=draft.handle)


def _check_handle(handle: str) -> None:
    fits = all(char in "-_" or unicodedata.category(char)[0] in "LMN" for char in handle)
    if not handle or not fits or handle != handle.lower():
        raise InvalidItem("A handle has lower-case letters, digits and hyphens only", handle=handle)


def handles_are_distinct(drafts: Sequence[ItemDraft]) -> None:
    """Refuse an import that says two things about one item."""
    seen: set[str] = set()
    for draft in drafts:
        if draft.handle in seen:
            raise DuplicateHandle(handle=draft.handle)
        seen.add(draft.handle)


def becomes(draft: ItemDraft, before: Item | None, fresh: Sequence[UUID], now: datetime) -> Item:
    """The item after this draft; `before` itself when nothing differs.

    `fresh` holds ids for new things: the item's first, then one for each option of the draft.
    """
    assert len(fresh) == len(draft.options) + 1, "each new thing needs an id"
    known = before.options if before else ()
    after = Item(
        id=before.id if before else fresh[0],
        handle=draft.handle,
        title=draft.title,
        description=draft.description,
        brand=draft.brand,
        category=draft.category,
        tags=draft.tags,
        status=draft.status,
        option_names=draft.option_names,
        options=_options(draft, known, fresh[1:]),
        media=tuple(Media(one.url, one.alt, position) for position, one in enumerate(draft.media)),
        version=before.version if before else 1,
        created_at=before.created_at if before else now,
        updated_at=before.updated_at if before else now,
    )
    if before is None or after == before:
        return after
    return replace(after, version=before.version + 1, updated_at=max(now, before.updated_at))


def _options(draft: ItemDraft, known: Sequence[Option], fresh: Sequence[UUID]) -> tuple[Option, ...]:
    """Options keep their ids: matched by id, else by values. One that is not named any more stays, inactive."""
    by_id = {option.id: option for option in known}
    named = {option.id for option in draft.options if option.id is not None}
    if strangers := named - by_id.keys():
        raise InvalidItem(
            "An option id must be one of this item; leave it out for a new option",
            handle=draft.handle,
            option_ids=sorted(map(str, strangers)),
        )
    # An active option wins over an inactive one that had the same values before.
    by_values = {option.values: option.id for option in sorted(known, key=lambda one: one.active)}
    taken = set(named)
    after: list[Option] = []
    for option, new_id in zip(draft.options, fresh, strict=True):
        found = option.id or by_values.get(option.values)
        chosen = new_id if found is None or (option.id is None and found in taken) else found
        taken.add(chosen)
        after.append(Option(chosen, option.values, option.sku, option.barcode, active=True))
    gone = (replace(option, active=False) for option in known if option.id not in taken)
    return (*after, *gone)
