"""The Shopify CSV reader by property: what is written is read back, and nothing crashes it."""

from __future__ import annotations

import csv
import io
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.surfaces.cli import shopify_csv
from doorbuster.surfaces.cli.shopify_csv import Image, Product, UnreadableFile, Variant

OLD = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,Option2 Value,"
    "Option3 Name,Option3 Value,Variant SKU,Variant Inventory Qty,Variant Price,Variant Compare At Price,"
    "Variant Barcode,Image Src,Image Position,Image Alt Text,Variant Image"
).split(",")
NEW = (
    "URL handle,Title,Description,Vendor,Product category,Tags,Published on online store,Option1 name,Option1 value,"
    "Option2 name,Option2 value,Option3 name,Option3 value,SKU,Inventory quantity,Price,Compare-at price,"
    "Barcode,Product image URL,Image position,Image alt text,Variant image URL"
).split(",")
SHORT = "Handle,Title,Option1 Name,Option1 Value,Variant Price,Variant Inventory Qty,Image Src"

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=12)
option_values = words.filter(lambda text: text.casefold() != "default title")
handles = st.text(string.ascii_lowercase + string.digits + "-_ñ한é", min_size=1, max_size=20)
prose = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(' ,"\n\r<&'), max_size=60
)
minor = st.integers(0, 10**12)
links = st.from_regex(r"(https:/|/api/v1/catalog/media)/[a-z0-9%&?=./-]{1,20}", fullmatch=True)


@st.composite
def products(draw: st.DrawFn, handle: str) -> Product:
    names = draw(st.lists(words.filter(lambda t: t.casefold() != "title"), max_size=3, unique_by=str.casefold))
    choices = st.tuples(*[option_values] * len(names))
    combinations = draw(st.lists(choices, min_size=1, max_size=5, unique=True))
    urls = draw(st.lists(links, max_size=6, unique=True))
    return Product(
        handle=handle,
        title=draw(words),
        description_html=draw(prose),
        brand=draw(st.just("") | words),
        category=draw(st.just("") | words),
        tags=tuple(draw(st.lists(words.filter(lambda tag: "," not in tag), max_size=3, unique=True))),
        published=draw(st.booleans()),
        option_names=tuple(names),
        variants=tuple(
            Variant(
                option_values=values,
                sku=draw(st.just("") | words),
                price_minor=draw(minor.filter(bool)),
                compare_at_minor=draw(st.none() | minor.filter(bool)),
                quantity=draw(st.integers(0, 10**9)),
                barcode=draw(st.just("") | words),
                image_url=draw(st.none() | links),
                line=0,
            )
            for values in combinations
        ),
        images=tuple(Image(url, n, draw(st.just("") | words)) for n, url in enumerate(urls, 1)),
    )


def amount(price_minor: int | None, digits: int) -> str:
    if price_minor is None:
        return ""
    return str(price_minor) if not digits else f"{price_minor // 10**digits}.{price_minor % 10**digits:0{digits}d}"


def rows_of(product: Product, digits: int) -> list[list[str]]:
    """The product as rows in the order of OLD and NEW; images beyond the variants get rows of their own."""
    rows = []
    for index in range(max(len(product.variants), len(product.images))):
        variant = product.variants[index] if index < len(product.variants) else None
        image = product.images[index] if index < len(product.images) else None
        first = index == 0
        row = [product.handle]
        row += [product.title, product.description_html, product.brand, product.category] if first else [""] * 4
        row += [",".join(product.tags), str(product.published).upper()] if first else ["", ""]
        for number in range(3):
            named = number < len(product.option_names)
            row.append(product.option_names[number] if first and named else "")
            row.append(variant.option_values[number] if variant and named else "")
        if variant is None:
            row += [""] * 5
        else:
            row += [variant.sku, str(variant.quantity), amount(variant.price_minor, digits)]
            row += [amount(variant.compare_at_minor, digits), variant.barcode]
        row += [image.url, str(image.position), image.alt] if image else [""] * 3
        row.append((variant.image_url or "") if variant else "")
        rows.append(row)
    return rows


def without_lines(product: Product) -> Product:
    fields = {name: getattr(product, name) for name in product.__struct_fields__}
    plain = tuple(
        Variant(**{n: getattr(v, n) for n in v.__struct_fields__} | {"line": 0}) for v in fields.pop("variants")
    )
    return Product(**fields, variants=plain)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_products_written_as_csv_are_read_back_the_same(data: st.DataObject) -> None:
    names = data.draw(st.lists(handles, min_size=1, max_size=4, unique=True))
    written = [data.draw(products(name)) for name in names]
    currency, digits = data.draw(st.sampled_from([("USD", 2), ("KRW", 0), ("KWD", 3)]))
    queues = [rows_of(product, digits) for product in written]
    rows = [queue.pop(0) for queue in queues]
    while remaining := [queue for queue in queues if queue]:
        rows.append(data.draw(st.sampled_from(remaining)).pop(0))
    out = io.StringIO(newline="")
    # Python's writer leaves a lone carriage return unquoted before a line feed, hence all quoted then.
    if data.draw(st.booleans()):
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    else:
        writer = csv.writer(out)
    writer.writerows([data.draw(st.sampled_from([OLD, NEW])), *rows])
    result = shopify_csv.read_products(io.StringIO(out.getvalue(), newline=""), currency)
    assert result.problems == ()
    assert result.unknown_columns == ()
    assert [without_lines(product) for product in result.products] == written


@given(st.binary(max_size=400) | st.binary(max_size=200).map((SHORT + "\na,A,,,1,1,\n").encode().__add__))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused_as_unreadable(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        result = shopify_csv.read_products(path, "USD")
    except UnreadableFile as error:
        assert str(error)
    else:
        assert len(result.products) + len(result.problems) > 0


cells = st.sampled_from(
    ["", "a", "b", "Size", "M", "1", "-1", "1.5", "x,y", 'q"q', "l\nl", "Title", "Default Title", "/i"]
)


@given(st.lists(st.lists(cells, min_size=6, max_size=8), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_cells_give_good_products_or_problems_inside_the_file(rows: list[list[str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([SHORT.split(","), *rows])
    try:
        result = shopify_csv.read_products(io.StringIO(out.getvalue(), newline=""), "USD")
    except UnreadableFile as error:
        assert "no products" in str(error)
        return
    last_line = len(out.getvalue().split("\n"))
    assert all(1 < problem.line <= last_line and problem.column_name for problem in result.problems)
    good = {product.handle for product in result.products}
    assert good.isdisjoint(result.bad_handles)
    assert all(product.title and product.variants for product in result.products)
