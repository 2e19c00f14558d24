"""Shopify product CSV read into products, with every problem named by line and column; pure but for reading the file.

`Product.description_html` is what the merchant's file says, kept as it is: it is NOT safe to put into a page. Whoever
renders it must escape or sanitise it (the API hands it out as a plain JSON string).
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec

from doorbuster.platform import money
from doorbuster.surfaces.cli import shopify_cells as cells
from doorbuster.surfaces.cli.csv_lines import Lines, UnreadableFile, open_lines
from doorbuster.surfaces.cli.shopify_columns import Header, read_header, usual_spelling

__all__ = ["Image", "Problem", "Product", "ReadResult", "UnreadableFile", "Variant", "read_products"]

MAX_ROWS = 1_000_000
MAX_VARIANTS = 2_048
MAX_IMAGES = 250
MAX_PROBLEMS = 10_000
_ROWS_PER_PROGRESS = 500
_SHOWN_HANDLE = 255

_NO_TAGS: tuple[str, ...] = ()
_T = TypeVar("_T")

Progress = Callable[[int, int | None], None]
"""Called with the bytes read so far and the file's size (for a text stream: characters and None), also at the end."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_OPTION_NAMES = ("option1_name", "option2_name", "option3_name")
_OPTION_VALUES = ("option1_value", "option2_value", "option3_value")
_VARIANT_FIELDS = (*_OPTION_VALUES, "sku", "price", "compare_at", "quantity", "barcode", "variant_image")


class Variant(msgspec.Struct, frozen=True):
    """One thing that can be bought: a value per option of its product; `line` is where its row begins (from 1)."""

    option_values: tuple[str, ...]
    sku: str
    price_minor: int
    compare_at_minor: int | None
    quantity: int
    barcode: str
    image_url: str | None
    line: int


class Image(msgspec.Struct, frozen=True):
    """A picture of a product by link (https, or a picture of this shop)."""

    url: str
    position: int
    alt: str


class Product(msgspec.Struct, frozen=True):
    """A product whose every row was good. No `option_names` means one variant with no values.
    `description_html` is raw: escape or sanitise it before it reaches a page."""

    handle: str
    title: str
    description_html: str
    brand: str
    category: str
    tags: tuple[str, ...]
    published: bool
    option_names: tuple[str, ...]
    variants: tuple[Variant, ...]
    images: tuple[Image, ...]


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at one cell: the physical line on which the cell begins, its column as this file spells it, and
    the product it spoils (as far as the row names one)."""

    line: int
    column_name: str
    message: str
    handle: str


class ReadResult(msgspec.Struct, frozen=True):
    """What a file holds. `products` are the good ones in the order of their first row; a product with a problem in any
    row is absent. `problems` holds the first 10,000 of `problem_count`. `bad_handles` are the products left out.
    `unknown_columns` are no columns of Shopify's; `unused_columns` are, but the shop keeps nothing of them."""

    products: tuple[Product, ...]
    problems: tuple[Problem, ...]
    problem_count: int
    bad_handles: tuple[str, ...]
    unknown_columns: tuple[str, ...]
    unused_columns: tuple[str, ...]
    rows: int


def read_products(source: Path | str | TextIO, currency: str, on_progress: Progress | None = None) -> ReadResult:
    """Reads a Shopify product CSV (a path, or an open text stream) with prices in `currency` (ISO 4217).

    Rows with one handle make one product, wherever they stand. A problem in a row spoils that product only; a file
    that cannot be read as a whole raises `UnreadableFile`, and nothing else is raised for whatever the file holds.
    """
    if not money.is_currency(currency):
        raise UnreadableFile(f"{currency!r} is not a currency; give its ISO 4217 code, like USD or KRW")
    with open_lines(source) as lines:
        return _read(lines, currency, on_progress)


def _read(lines: Lines, currency: str, on_progress: Progress | None) -> ReadResult:
    reader = csv.reader(lines, strict=True)
    sheet: _Sheet | None = None
    rows = 0
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise _broken(error, line, reader.line_num) from error
        if not any(map(str.strip, row)):
            continue  # an empty line, or what a spreadsheet leaves below the table
        if sheet is None:
            sheet = _Sheet(read_header(row, line), currency)
            continue
        rows += 1
        if rows > MAX_ROWS:
            raise UnreadableFile(f"line {line}: more than {MAX_ROWS} rows; split the file and import each", line=line)
        sheet.take(row, line)
        if on_progress is not None and rows % _ROWS_PER_PROGRESS == 0:
            on_progress(lines.done, lines.total)
    if sheet is None:
        raise UnreadableFile("the file is empty; it must begin with a row of column names")
    if rows == 0:
        raise UnreadableFile("the file has column names but no products")
    if on_progress is not None:
        on_progress(lines.done, lines.total)
    return sheet.result(rows)


def _broken(error: csv.Error, first: int, last: int) -> UnreadableFile:
    text = str(error)
    if "unexpected end" in text:
        reason = "a quoted cell is never closed"
    elif "field larger" in text:
        reason = f"a cell is longer than {csv.field_size_limit()} characters; is a closing quote missing?"
    elif "expected after" in text:
        reason = "a quote inside a quoted cell must be written twice"
    else:
        reason = text
    where = f"line {first}" if last <= first else f"the row on lines {first} to {last}"
    return UnreadableFile(f"{where} is not valid CSV: {reason}", line=max(first, 1))


class _Sheet:
    """What has been read so far: products under construction, the problems found, and which products they spoil."""

    def __init__(self, header: Header, currency: str) -> None:
        self.header = header
        self.currency = currency
        self._drafts: dict[str, _Draft | None] = {}  # None: its first row is lost, so its other rows mean nothing
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._bad: dict[str, None] = {}

    def note(self, problem: Problem) -> None:
        self._problem_count += 1
        self._bad[problem.handle] = None
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)

    def take(self, row: list[str], line: int) -> None:
        """Adds one row to its product, or notes what is wrong with it."""
        view = _Row(self, row, line)
        if view.handle and view.handle in self._drafts and self._drafts[view.handle] is None:
            return  # already reported, and whatever this row says hangs in the air
        if not view.is_sound():
            self._drafts.setdefault(view.handle, None)
        elif view.handle not in self._drafts:
            self._drafts[view.handle] = _Draft(view)
        elif draft := self._drafts[view.handle]:
            draft.add_row(view)

    def result(self, rows: int) -> ReadResult:
        good = (draft for handle, draft in self._drafts.items() if draft is not None and handle not in self._bad)
        return ReadResult(
            products=tuple(draft.product() for draft in good),
            problems=tuple(self._problems),
            problem_count=self._problem_count,
            bad_handles=tuple(handle for handle in self._bad if handle),
            unknown_columns=self.header.unknown,
            unused_columns=self.header.unused,
            rows=rows,
        )


class _Row:
    """One row and its place in the file: cells by field, and problems noted at the right line and column."""

    def __init__(self, sheet: _Sheet, row: list[str], line: int) -> None:
        self.currency = sheet.currency
        self.line = line
        self._sheet, self._row = sheet, row
        self._header = sheet.header
        index = self._header.position["handle"]
        self.handle = unicodedata.normalize("NFC", row[index].strip()) if index < len(row) else ""

    def raw(self, field: str) -> str:
        index = self._header.position.get(field)
        return "" if index is None else self._row[index]

    def text(self, field: str) -> str:
        return self.raw(field).strip()

    def problem(self, field: str, message: str) -> None:
        # A column that this file does not have has no place in the row; the problem then stands at the row's start.
        index = self._header.position.get(field, 0)
        self._note(index, self._header.spelling.get(field) or usual_spelling(field), message)

    def parsed(self, field: str, parse: Callable[[str], _T], otherwise: _T) -> _T:
        try:
            return parse(self.raw(field) if field == "description" else self.text(field))
        except cells.BadCell as error:
            self.problem(field, str(error))
            return otherwise

    def is_sound(self) -> bool:
        """Whether the row has a handle, as many cells as the header and only storable characters; notes what is not."""
        width, columns = len(self._row), self._header.columns
        if width != len(columns):
            name = columns[width] if width < len(columns) else f"column {len(columns) + 1}"
            hint = "is a comma or a quote missing?" if width < len(columns) else "is a comma in a cell without quotes?"
            self._note(min(width, len(columns)), name, f"the row has {width} cells, the header {len(columns)}; {hint}")
            return False
        if cells.has_forbidden_character("".join(self._row)):
            for field in self._header.position:
                if cells.has_forbidden_character(self.raw(field)):
                    self.problem(field, "the cell holds a control character, which cannot be stored")
                    return False
        try:
            cells.check_handle(self.handle)
        except cells.BadCell as error:
            self.problem("handle", str(error))
            return False
        return True

    def _note(self, index: int, column_name: str, message: str) -> None:
        above = sum(len(_LINE_END.findall(cell)) for cell in self._row[:index])
        self._sheet.note(Problem(self.line + above, column_name, message, self.handle[:_SHOWN_HANDLE]))


class _Draft:
    """A product under construction; its first row gives everything but further variants and images."""

    def __init__(self, row: _Row) -> None:
        self._first_line = row.line
        self._handle = row.handle
        self._title = row.parsed("title", cells.line_of_text, "")
        self._description = row.parsed("description", cells.description, "")
        self._brand = row.parsed("brand", cells.line_of_text, "")
        kind = row.parsed("type", cells.line_of_text, "")
        self._category = kind or row.parsed("product_category", cells.line_of_text, "")
        self._tags: tuple[str, ...] = row.parsed("tags", cells.tags, _NO_TAGS)
        shown, active = row.parsed("published", cells.flag, False), row.parsed("status", cells.is_active, False)
        self._published = shown and active
        self._option_names = _option_names(row)
        self._variants: list[Variant] = []
        self._is_full = False
        self._line_by_values: dict[tuple[str, ...], int] = {}
        self._images: dict[str, Image] = {}
        if not row.text("title"):
            row.problem("title", "the first row of a product needs a title")
        self._add_variant(row)
        self._add_image(row)

    def add_row(self, row: _Row) -> None:
        """A further row: a variant, an image, or both."""
        self._check_agreement(row)
        if any(map(row.text, _VARIANT_FIELDS)):
            self._add_variant(row)
        elif not row.text("image"):
            row.problem("handle", "the row has neither a variant (options and price) nor an image")
        self._add_image(row)

    def product(self) -> Product:
        assert self._variants, "a product's first row is always a variant"
        return Product(
            handle=self._handle,
            title=self._title,
            description_html=self._description,
            brand=self._brand,
            category=self._category,
            tags=self._tags,
            published=self._published,
            option_names=self._option_names,
            variants=tuple(self._variants),
            images=tuple(sorted(self._images.values(), key=lambda image: image.position)),
        )

    def _check_agreement(self, row: _Row) -> None:
        # Two products that share a handle by mistake would silently become one; what a row repeats must be the same.
        title = row.text("title")
        if title and cells.flattened(title) != self._title:
            row.problem("title", f"another title than on line {self._first_line}; do two products share this handle?")
        declared = self._option_names or ("Title",)
        for index, field in enumerate(_OPTION_NAMES):
            name = row.text(field)
            if name and (index >= len(declared) or cells.flattened(name).casefold() != declared[index].casefold()):
                row.problem(field, f"another option name than on line {self._first_line}, where the product begins")

    def _add_variant(self, row: _Row) -> None:
        if len(self._variants) == MAX_VARIANTS:
            if not self._is_full:
                row.problem("handle", f"the product has more than {MAX_VARIANTS} variants")
            self._is_full = True
            return
        values = self._values(row)
        variant = Variant(
            option_values=values or (),
            sku=row.parsed("sku", cells.line_of_text, ""),
            price_minor=row.parsed("price", lambda text: cells.selling_price_minor(text, row.currency), 1),
            compare_at_minor=row.parsed("compare_at", lambda t: cells.price_minor(t or "0", row.currency), 0) or None,
            quantity=row.parsed("quantity", cells.quantity, 0),
            barcode=row.parsed("barcode", cells.line_of_text, ""),
            image_url=row.parsed("variant_image", cells.url, "") if row.text("variant_image") else None,
            line=row.line,
        )
        if values is not None and self._is_new(values, row):
            self._variants.append(variant)

    def _is_new(self, values: tuple[str, ...], row: _Row) -> bool:
        earlier = self._line_by_values.setdefault(values, row.line)
        if earlier == row.line:
            return True
        if values:
            row.problem("option1_value", f"the same options as on line {earlier}: {' / '.join(values)}")
        else:
            row.problem("option1_value", f"a product without options has one variant; line {earlier} is that one")
        return False

    def _values(self, row: _Row) -> tuple[str, ...] | None:
        """The variant's option values, one per option of the product, or None when some are missing or too many."""
        values = [row.parsed(field, cells.line_of_text, "?") for field in _OPTION_VALUES]
        declared = len(self._option_names)
        if not declared and _is_default(values):
            return ()
        sound = True
        for index, (field, value) in enumerate(zip(_OPTION_VALUES, values, strict=True)):
            if index < declared and not value:
                row.problem(field, f"a value is missing for the option {self._option_names[index]!r}")
            elif index >= declared and value:
                row.problem(field, f"a value for an option that has no name on line {self._first_line}")
            else:
                continue
            sound = False
        return tuple(values[:declared]) if sound else None

    def _add_image(self, row: _Row) -> None:
        link = row.text("image")
        if not link or link in self._images:
            return
        if len(self._images) == MAX_IMAGES:
            row.problem("image", f"the product has more than {MAX_IMAGES} images")
            return
        following = len(self._images) + 1
        self._images[link] = Image(
            url=row.parsed("image", cells.url, ""),
            position=row.parsed("image_position", lambda text: cells.position(text, following), following),
            alt=row.parsed("image_alt", cells.alt, ""),
        )


def _option_names(row: _Row) -> tuple[str, ...]:
    names = [row.parsed(field, cells.line_of_text, "?") for field in _OPTION_NAMES]
    if names[0].casefold() in ("", "title") and not any(names[1:]) and _is_default(map(row.text, _OPTION_VALUES)):
        return ()
    for index, name in enumerate(names):
        if not name and any(names[index + 1 :]):
            row.problem(_OPTION_NAMES[index], "an option without a name stands before one with a name")
            break
        if name and name.casefold() in (earlier.casefold() for earlier in names[:index]):
            row.problem(_OPTION_NAMES[index], f"two options are called {name!r}")
    return tuple(name for name in names if name)


def _is_default(values: Iterable[str]) -> bool:
    first, *others = values
    return first.casefold() in ("", "default title") and not any(others)
