"""The columns of a Shopify product CSV: which spellings mean which field, and what a header row must hold.

Shopify renamed its columns ("Handle" became "URL handle", "Variant Price" became "Price", ...); exports of both ages
are around, so both spellings are known. Letter case, spaces around and hyphens do not matter.
Source: help.shopify.com, "Using CSV files to import and export products", and exports of both ages.
"""

from __future__ import annotations

import msgspec

from doorbuster.surfaces.cli.csv_lines import UnreadableFile

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "handle": ("Handle", "URL handle"),
    "title": ("Title",),
    "description": ("Body (HTML)", "Body HTML", "Body", "Description"),
    "brand": ("Vendor",),
    "type": ("Type", "Custom Product Type"),
    "product_category": ("Product Category", "Standardized Product Type", "Standard Product Type"),
    "tags": ("Tags",),
    "published": ("Published", "Published on online store"),
    "status": ("Status",),
    "option1_name": ("Option1 Name",),
    "option1_value": ("Option1 Value",),
    "option2_name": ("Option2 Name",),
    "option2_value": ("Option2 Value",),
    "option3_name": ("Option3 Name",),
    "option3_value": ("Option3 Value",),
    "sku": ("Variant SKU", "SKU"),
    "price": ("Variant Price", "Price"),
    "compare_at": ("Variant Compare At Price", "Compare At Price"),
    "quantity": ("Variant Inventory Qty", "Variant Inventory Quantity", "Inventory quantity"),
    "barcode": ("Variant Barcode", "Barcode"),
    "variant_image": ("Variant Image", "Variant image URL"),
    "image": ("Image Src", "Product image URL", "Image source", "Image URL"),
    "image_position": ("Image Position",),
    "image_alt": ("Image Alt Text",),
}

# Columns that Shopify writes and this shop has no place for. They are told apart from unknown ones, which may be typing
# errors, so that a warning about a misspelt header is not drowned among forty others.
_UNUSED = """Variant Grams|Weight value (grams)|Variant Weight Unit|Weight unit for display|Variant Inventory Tracker
Inventory tracker|Variant Inventory Policy|Continue selling when out of stock|Variant Fulfillment Service
Fulfillment service|Variant Requires Shipping|Requires shipping|Variant Taxable|Charge tax|Variant Tax Code|Tax code
Gift Card|SEO Title|SEO Description|Cost per item|Collection|Unit price total measure|Unit price total measure unit
Unit price base measure|Unit price base measure unit|Variant Unit Price|Option1 Linked To|Option2 Linked To
Option3 Linked To|Included / Primary|Included / International|Price / International|Compare At Price / International
Gift card template suffix|Template suffix"""
_UNUSED_PREFIXES = ("google shopping /", "included /", "price /", "compare at price /")

_REQUIRED = ("handle", "title", "price")
_MAX_COLUMNS = 1_000


class Header(msgspec.Struct, frozen=True):
    """Where each field stands in a row, and how this file spells it."""

    position: dict[str, int]
    spelling: dict[str, str]
    columns: tuple[str, ...]
    unknown: tuple[str, ...]
    unused: tuple[str, ...]


def read_header(cells: list[str], line: int) -> Header:
    """The header row understood. Raises `UnreadableFile` when a required column is missing or any stands twice."""
    if len(cells) > _MAX_COLUMNS:
        raise UnreadableFile(f"line {line}: more than {_MAX_COLUMNS} columns", line=line)
    columns = tuple(cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1))
    position: dict[str, int] = {}
    spelling: dict[str, str] = {}
    seen: dict[str, str] = {}
    others: list[str] = []
    for index, name in enumerate(columns):
        field = _FIELD_BY_NAME.get(_plain(name))
        earlier = spelling.get(field) if field else seen.get(_plain(name))
        if earlier is not None:
            same = f"{name!r}" if earlier == name else f"{name!r}, which means the same as {earlier!r},"
            raise UnreadableFile(f"line {line}: the column {same} stands twice", line=line, column_name=name)
        seen[_plain(name)] = name
        if field is None:
            others.append(name)
        else:
            position[field], spelling[field] = index, name
    _refuse_missing(position, columns, line)
    unused = tuple(name for name in others if _is_unused(name))
    return Header(position, spelling, columns, tuple(name for name in others if not _is_unused(name)), unused)


def usual_spelling(field: str) -> str:
    """The name of a field's column, for a file that does not have it."""
    return _SPELLINGS[field][0]


def _refuse_missing(position: dict[str, int], columns: tuple[str, ...], line: int) -> None:
    missing = [field for field in _REQUIRED if field not in position]
    if not missing:
        return
    wanted = "; ".join(" or ".join(repr(name) for name in _SPELLINGS[field]) for field in missing)
    hint = ""
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        hint = "; cells must be separated by commas"
    found = ", ".join(name[:40] for name in columns[:8]) + (", …" if len(columns) > 8 else "")
    message = f"line {line}: a required column is missing: {wanted} (found: {found}){hint}"
    raise UnreadableFile(message, line=line, column_name=_SPELLINGS[missing[0]][0])


def _is_unused(name: str) -> bool:
    plain = _plain(name)
    return plain in _UNUSED_NAMES or plain.startswith(_UNUSED_PREFIXES) or "product.metafields." in plain


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").split())


_FIELD_BY_NAME = {_plain(name): field for field, names in _SPELLINGS.items() for name in names}
_UNUSED_NAMES = frozenset(_plain(name) for name in _UNUSED.replace("\n", "|").split("|"))
