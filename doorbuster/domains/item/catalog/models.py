"""Public values of the catalogue: what merchants send (drafts) and what everyone reads (items)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

MAX_DESCRIPTION_BYTES = 65_536
MAX_OPTIONS = 2_048
MAX_IMPORT_ITEMS = 2_000

Status = Literal["draft", "active", "archived"]
Line = Annotated[str, Meta(max_length=255, pattern=r"^[^\u0000-\u001f\u007f]*$")]
"""Text on one line. Control characters cannot be stored (NUL) or shown."""
FullLine = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\u0000-\u001f\u007f]*$")]
Text = Annotated[str, Meta(max_length=MAX_DESCRIPTION_BYTES, pattern=r"^[^\u0000]*$")]
MediaUrl = Annotated[
    str, Meta(max_length=2_048, pattern=r"""^(https://|/api/v1/catalog/media/)[^\u0000-\u0020<>"'`\\\u007f]+$""")
]
"""A link that is safe to put into a page: never `javascript:`, never plain http, no way out of an attribute."""


class OptionDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to buy. With `id` it is that option of the item, else the one with equal values, else a new one."""

    values: Annotated[tuple[FullLine, ...], Meta(max_length=3)] = ()
    id: UUID | None = None
    sku: Line = ""
    barcode: Line | None = None


class MediaDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """A picture by link, in the order of the list."""

    url: MediaUrl
    alt: Annotated[str, Meta(max_length=512, pattern=r"^[^\u0000]*$")] = ""


class ItemDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole item as a merchant describes it. Without `option_names` it has one option, with no values."""

    handle: FullLine
    title: FullLine
    description: Text = ""
    brand: Line = ""
    category: Line = ""
    tags: Annotated[tuple[FullLine, ...], Meta(max_length=250)] = ()
    status: Status = "draft"
    option_names: Annotated[tuple[FullLine, ...], Meta(max_length=3)] = ()
    options: Annotated[tuple[OptionDraft, ...], Meta(max_length=MAX_OPTIONS)] = ()
    media: Annotated[tuple[MediaDraft, ...], Meta(max_length=250)] = ()


class ItemImport(Struct, frozen=True, forbid_unknown_fields=True):
    """Items to make or replace, each found by its handle."""

    items: Annotated[tuple[ItemDraft, ...], Meta(min_length=1, max_length=MAX_IMPORT_ITEMS)]


class Option(Struct, frozen=True):
    """One thing to buy: a value for each of the item's option names. Not `active`: it is no longer sold."""

    id: UUID
    values: tuple[str, ...]
    sku: str
    barcode: str | None
    active: bool


class Media(Struct, frozen=True):
    """A picture of an item."""

    url: str
    alt: str
    position: int


class Item(Struct, frozen=True):
    """What is sold. `description` is raw text of the merchant: escape it before it reaches a page."""

    id: UUID
    handle: str
    title: str
    description: str
    brand: str
    category: str
    tags: tuple[str, ...]
    status: Status
    option_names: tuple[str, ...]
    options: tuple[Option, ...]
    media: tuple[Media, ...]
    version: int
    created_at: datetime
    updated_at: datetime


class ItemCard(Struct, frozen=True):
    """An item in a list: enough to show it and to link to it."""

    id: UUID
    handle: str
    title: str
    brand: str
    category: str
    tags: tuple[str, ...]
    media: Media | None
    version: int
    created_at: datetime


class PageStart(Struct, frozen=True, array_like=True):
    """The last card of a page; the next page starts after it."""

    created_at: Annotated[datetime, Meta(tz=True)]
    id: UUID


class ItemFilter(Struct, frozen=True):
    """Which active items to list; what is None does not narrow."""

    category: str | None = None
    brand: str | None = None
    handle: str | None = None


class OptionRef(Struct, frozen=True):
    """An option as others name it. `active` when both the option and its item are sold."""

    option_id: UUID
    item_id: UUID
    handle: str
    title: str
    values: tuple[str, ...]
    sku: str
    active: bool


class ImportedOption(Struct, frozen=True):
    """The id that stands for these values from now on."""

    option_id: UUID
    values: tuple[str, ...]


class ImportedItem(Struct, frozen=True):
    """What became of one item of an import; its active options in the order they were sent."""

    handle: str
    item_id: UUID
    outcome: Literal["created", "updated", "unchanged"]
    version: int
    options: tuple[ImportedOption, ...]
