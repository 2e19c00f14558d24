"""The catalogue owns what is sold: items, options, brands, categories, pictures.

An option's id is for ever: it is kept when the item is replaced, and an option that is no longer sold stays, inactive.
Every change of an item raises its version by one and publishes `ItemChanged` in the same commit.
"""

from doorbuster.domains.item.catalog.errors import (
    DuplicateHandle,
    DuplicateOption,
    HandleTaken,
    InvalidItem,
    UnknownItem,
    UnknownMedia,
)
from doorbuster.domains.item.catalog.events import FACTS, ItemChanged
from doorbuster.domains.item.catalog.models import (
    ImportedItem,
    ImportedOption,
    Item,
    ItemCard,
    ItemDraft,
    ItemFilter,
    Media,
    MediaDraft,
    Option,
    OptionDraft,
    OptionRef,
    PageStart,
)
from doorbuster.domains.item.catalog.service import (
    create_item,
    get_item,
    get_items,
    import_items,
    list_items,
    options_of,
    replace_item,
)

__all__ = [
    "FACTS",
    "DuplicateHandle",
    "DuplicateOption",
    "HandleTaken",
    "ImportedItem",
    "ImportedOption",
    "InvalidItem",
    "Item",
    "ItemCard",
    "ItemChanged",
    "ItemDraft",
    "ItemFilter",
    "Media",
    "MediaDraft",
    "Option",
    "OptionDraft",
    "OptionRef",
    "PageStart",
    "UnknownItem",
    "UnknownMedia",
    "create_item",
    "get_item",
    "get_items",
    "import_items",
    "list_items",
    "options_of",
    "replace_item",
]
