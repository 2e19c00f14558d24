"""The Shopify CSV reader by example: what makes a product, and every problem at its line and column."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import pytest

from doorbuster.surfaces.cli import csv_lines, shopify_csv
from doorbuster.surfaces.cli.shopify_csv import Image, Problem, ReadResult, UnreadableFile

SHORT = "Handle,Title,Option1 Name,Option1 Value,Variant Price,Variant Inventory Qty,Image Src"


def read(text: str, currency: str = "USD") -> ReadResult:
    return shopify_csv.read_products(io.StringIO(text, newline=""), currency)


def short(*rows: str, currency: str = "USD") -> ReadResult:
    return read("\r\n".join((SHORT, *rows)) + "\r\n", currency)


def only_problem(result: ReadResult) -> Problem:
    assert result.problem_count == 1, result.problems
    return result.problems[0]


def unreadable(text: str) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        read(text)
    return caught.value


def test_rows_of_one_handle_are_one_product_with_options_of_its_first_row() -> None:
    result = short("tee,Boxy Tee,Size,S,19.50,4,https://x.test/a.png", "tee,,,M,21,,", "tee,,,,,,https://x.test/b.png")
    assert result.problems == ()
    assert result.rows == 3
    (product,) = result.products
    assert (product.title, product.option_names) == ("Boxy Tee", ("Size",))
    assert [(v.option_values, v.price_minor, v.quantity, v.line) for v in product.variants] == [
        (("S",), 1950, 4, 2),
        (("M",), 2100, 0, 3),
    ]
    assert product.images == (Image("https://x.test/a.png", 1, ""), Image("https://x.test/b.png", 2, ""))


@pytest.mark.parametrize("option", ["Title,Default Title", "Title,", ","])
def test_default_title_means_no_options(option: str) -> None:
    (product,) = short(f"mug,Mug,{option},8,1,").products
    assert product.option_names == ()
    assert [variant.option_values for variant in product.variants] == [()]


def test_images_stand_by_position_and_each_link_once() -> None:
    head = "Handle,Title,Variant Price,Option1 Name,Option1 Value,Image Src,Image Position,Image Alt Text\n"
    result = read(
        head
        + "a,A,1,Size,S,https://x.test/b,2,Back\na,,1,,M,https://x.test/f,1,Front\na,,1,,L,https://x.test/b,3,Again\n"
    )
    assert result.products[0].images == (Image("https://x.test/f", 1, "Front"), Image("https://x.test/b", 2, "Back"))


def test_interleaved_handles_are_merged_in_order_of_first_row() -> None:
    result = short("a,A,Size,S,1,1,", "b,B,Size,S,1,1,", "a,,,M,1,1,", "b,,,M,1,1,")
    assert [(p.handle, len(p.variants)) for p in result.products] == [("a", 2), ("b", 2)]


@pytest.mark.parametrize(
    ("currency", "text", "minor"),
    [
        ("USD", "12.3", 1230),
        ("USD", "70368744177.64", 7_036_874_417_764),
        ("KRW", "189000", 189_000),
        ("KRW", "189000.00", 189_000),
        ("JPY", "1", 1),
        ("KWD", "1.234", 1234),
        ("CLF", "1.0001", 10_001),
    ],
)
def test_price_is_exact_in_minor_units_of_the_currency(currency: str, text: str, minor: int) -> None:
    (product,) = short(f"a,A,,,{text},1,", currency=currency).products
    assert product.variants[0].price_minor == minor


@pytest.mark.parametrize(
    ("currency", "text"),
    [
        ("USD", t)
        for t in ["12.345", "1.000", "-1", "NaN", "inf", "1e3", '"1,000"', '"1,5"', "1 000", "$5", "٣", "9" * 17]
    ]
    + [("KRW", "10.50"), ("KRW", "1.000"), ("KWD", "1.2345"), ("USD", ""), ("USD", "0.00"), ("JPY", "0")],
)
def test_bad_price_names_line_and_column(currency: str, text: str) -> None:
    result = short("ok,Fine,,,1,1,", f"bad,Bad,,,{text},1,", currency=currency)
    problem = only_problem(result)
    assert (problem.line, problem.column_name, problem.handle) == (3, "Variant Price", "bad")
    assert [product.handle for product in result.products] == ["ok"]
    assert result.bad_handles == ("bad",)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "99999999999", "1e3"])
def test_bad_quantity_names_line_and_column(text: str) -> None:
    problem = only_problem(short(f"a,A,,,1,{text},"))
    assert (problem.line, problem.column_name) == (2, "Variant Inventory Qty")


def test_line_is_physical_where_the_bad_cell_begins_after_line_breaks_in_quotes() -> None:
    text = 'Handle,Title,Body,Variant Price\na,A,"one\r\ntwo\nthree",x\nb,B,,y\n'
    assert [(p.line, p.column_name) for p in read(text).problems] == [(4, "Variant Price"), (5, "Variant Price")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_known_in_files(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(end.join([SHORT, "a,A,,,1,1,", "", ",,,,,,", "b,B,,,x,1,"]).encode())
    assert only_problem(shopify_csv.read_products(path, "USD")).line == 5


@pytest.mark.parametrize(
    ("rows", "line", "column", "words"),
    [
        (("a,,,,1,1,",), 2, "Title", "needs a title"),
        (("a,A,Size,S,1,1,", "a,,,S,1,1,"), 3, "Option1 Value", "line 2"),
        (("a,A,Title,Default Title,1,1,", "a,,,Default Title,1,1,"), 3, "Option1 Value", "line 2"),
        (("a,A,Size,S,1,1,", "a,,,,1,1,"), 3, "Option1 Value", "missing"),
        (("a,A,,Red,1,1,",), 2, "Option1 Value", "no name"),
        (("a,A,Size,S,1,1,", "a,,Colour,M,1,1,"), 3, "Option1 Name", "line 2"),
        (("a,A,Size,S,1,1,", "a,Another,,M,1,1,"), 3, "Title", "share this handle"),
        (("a,A,,,1,1,", "a,,,,,,"), 3, "Handle", "neither"),
        (("a,A,,,1,1,", ",B,,,1,1,"), 3, "Handle", "empty"),
        (("Blue Shirt,A,,,1,1,",), 2, "Handle", "letters"),
        (("Blue-Shirt,A,,,1,1,",), 2, "Handle", "blue-shirt"),
        (("h" * 256 + ",A,,,1,1,",), 2, "Handle", "256"),
        (("a,A,,,1",), 2, "Variant Inventory Qty", "5 cells"),
        (("a,A,,,1,1,,,",), 2, "column 8", "9 cells"),
        (("a,A,,,1,1,javascript:alert(1)",), 2, "Image Src", "not a link"),
        (("a,A\0,,,1,1,",), 2, "Title", "control"),
        ((f"a,{'t' * 256},,,1,1,",), 2, "Title", "256"),
    ],
)
def test_bad_row_is_named(rows: tuple[str, ...], line: int, column: str, words: str) -> None:
    problem = only_problem(short(*rows))
    assert (problem.line, problem.column_name) == (line, column)
    assert words in problem.message


def test_one_bad_row_spoils_its_product_and_no_other() -> None:
    result = short("a,A,Size,S,1,1,", "b,B,Size,S,1,1,", "a,,,M,oops,1,", "a,,,L,1,1,")
    assert [product.handle for product in result.products] == ["b"]
    assert result.bad_handles == ("a",)


def test_a_lost_first_row_is_reported_once_and_not_again_by_the_rows_after_it() -> None:
    result = short("a,A,Size,S,1", "a,,,M,1,1,", "b,B,,,1,1,")
    assert only_problem(result).line == 2
    assert [product.handle for product in result.products] == ["b"]


def test_letters_of_any_script_make_a_handle() -> None:
    decomposed = unicodedata.normalize("NFD", "한글-셔츠-2")
    assert [product.handle for product in short(f"{decomposed},셔츠,,,1,1,").products] == ["한글-셔츠-2"]


def test_description_keeps_its_html_and_has_a_limit() -> None:
    head = "Handle,Title,Body (HTML),Variant Price\n"
    html = '<p onclick=""x"">a & b</p>\n '
    assert read(f'{head}a,A,"{html}",1\n').products[0].description_html == html.replace('""', '"')
    assert len(read(f"{head}a,A,{'x' * 65_536},1\n").products) == 1
    assert only_problem(read(f"{head}a,A,{'é' * 32_769},1\n")).column_name == "Body (HTML)"


def test_variants_of_a_product_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_csv, "MAX_VARIANTS", 3)
    assert len(short("a,A,N,0,1,1,", *(f"a,,,{n},1,1," for n in range(1, 3))).products[0].variants) == 3
    problem = only_problem(short("a,A,N,0,1,1,", *(f"a,,,{n},1,1," for n in range(1, 9))))
    assert (problem.line, "3 variants" in problem.message) == (5, True)


def test_published_needs_both_the_flag_and_the_status() -> None:
    head = "Handle,Title,Variant Price,Published,Status\n"
    rows = "a,A,1,TRUE,active\nb,B,1,,\nc,C,1,false,active\nd,D,1,true,draft\ne,E,1,maybe,\nf,F,1,,gone\n"
    result = read(head + rows)
    assert [(p.handle, p.published) for p in result.products] == [("a", True), ("b", True), ("c", False), ("d", False)]
    assert [(p.line, p.column_name) for p in result.problems] == [(6, "Published"), (7, "Status")]


def test_unknown_columns_are_collected_apart_from_those_that_shopify_writes() -> None:
    result = read("Handle,Title,Price,Weight,SEO Title,Google Shopping / MPN,Mood\na,A,1,2,,,happy\n")
    assert result.unknown_columns == ("Weight", "Mood")
    assert result.unused_columns == ("SEO Title", "Google Shopping / MPN")
    assert len(result.products) == 1


def test_file_without_a_required_column_is_refused() -> None:
    error = unreadable("Title,Variant Price\nA,1\n")
    assert (error.line, error.column_name) == (1, "Handle")
    assert "'Handle' or 'URL handle'" in str(error)
    assert "separated by commas" in str(unreadable("Handle;Title;Variant Price\na;A;1\n"))


@pytest.mark.parametrize(
    "header", ["Handle,Title,Price,title ", "Handle,Title,URL handle,Price", "Handle,Title,Price,X,X"]
)
def test_column_that_stands_twice_is_refused(header: str) -> None:
    assert "twice" in str(unreadable(header + "\na,A,1,1\n"))


@pytest.mark.parametrize(("text", "words"), [("", "empty"), ("\n\n", "empty"), (SHORT, "no products")])
def test_file_without_products_is_refused(text: str, words: str) -> None:
    assert words in str(unreadable(text))


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [('a,"A,1,1\n', 2, "never closed"), ('a,"A"x,1\n', 2, "twice"), (f'a,"{"x" * 140_000}",1\n', 2, "longer")],
)
def test_broken_quotes_are_refused_with_the_line_they_begin_on(rows: str, line: int, words: str) -> None:
    error = unreadable(f"Handle,Title,Price\n{rows}")
    assert error.line == line
    assert words in str(error)


def test_byte_that_is_not_utf8_is_named_by_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{SHORT}\ncaf".encode() + b"\xe9,A,,,1,1,\n")
    with pytest.raises(UnreadableFile, match="byte offset") as caught:
        shopify_csv.read_products(path, "USD")
    assert (caught.value.byte_offset, caught.value.line) == (3 + len(SHORT) + 4, 2)
    path.write_text(SHORT, encoding="utf-16")
    with pytest.raises(UnreadableFile, match="UTF-16") as caught:
        shopify_csv.read_products(path, "USD")
    assert caught.value.byte_offset == 0


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_text(f"{SHORT}\na,A,,,1,1,\n", encoding="utf-8-sig")
    assert len(shopify_csv.read_products(path, "USD").products) == 1


def test_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(UnreadableFile, match="cannot open"):
            shopify_csv.read_products(path, "USD")


def test_currency_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="ISO 4217"):
        shopify_csv.read_products(io.StringIO(SHORT), "usd")


def test_rows_bytes_and_lines_are_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shopify_csv, "MAX_ROWS", 2)
    assert "more than 2 rows" in str(unreadable(f"{SHORT}\n" + "a,A,,,1,1,\n" * 3))
    monkeypatch.setattr(csv_lines, "MAX_LINE", 100)
    assert "longer than 100" in str(unreadable(f"{SHORT}\na,{'x' * 100},,,1,1,\n"))
    monkeypatch.setattr(csv_lines, "MAX_FILE_BYTES", 200)
    assert "larger than" in str(unreadable(f"{SHORT}\n" + "\n" * 200))
    path = tmp_path / "big.csv"
    path.write_text(f"{SHORT}\n" + "\n" * 200)
    with pytest.raises(UnreadableFile, match="larger than"):
        shopify_csv.read_products(path, "USD")


def test_problems_are_counted_all_and_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_csv, "MAX_PROBLEMS", 2)
    result = short(*(f"p{n},P,,,x,1," for n in range(5)))
    assert (len(result.problems), result.problem_count, len(result.bad_handles)) == (2, 5, 5)


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("\n".join([SHORT, *(f"p{n},P,,,1,1," for n in range(1200))]))
    seen: list[tuple[int, int | None]] = []
    shopify_csv.read_products(path, "USD", lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert len(seen) == 3
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
