"""The demo shop is whole: its catalogue reads without a problem, products have drawings, deals have products."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from doorbuster import demo
from doorbuster.demo import deals
from doorbuster.platform import money
from doorbuster.surfaces.cli.shopify_csv import Product, read_products

_RESULT = read_products(demo.CATALOG, demo.CURRENCY)
_PRODUCTS = {product.handle: product for product in _RESULT.products}
_FORBIDDEN_ELEMENTS = {"script", "text", "image", "use", "foreignObject", "style", "a", "animate", "set", "iframe"}


def test_catalogue_reads_without_a_problem() -> None:
    assert _RESULT.problems == ()
    assert (_RESULT.unknown_columns, _RESULT.unused_columns) == ((), ())
    assert 24 <= len(_PRODUCTS) <= 30
    assert 5 <= len({product.category for product in _PRODUCTS.values()}) <= 6


@pytest.mark.parametrize("product", _RESULT.products, ids=lambda product: product.handle)
def test_product_is_fit_to_be_sold(product: Product) -> None:
    assert product.published
    assert product.brand
    assert 2 <= len(re.findall(r"[.!?](?:\s|$)", product.description_html)) <= 4, "two to four sentences"
    assert "<" not in product.description_html
    assert [image.url for image in product.images] == [f"{demo.MEDIA_PATH}{product.handle}.svg"]
    assert all(image.alt for image in product.images)
    for variant in product.variants:
        assert variant.quantity > 0
        assert variant.price_minor > 0
        assert variant.compare_at_minor is None or variant.compare_at_minor > variant.price_minor


def test_stock_keeping_units_are_unique() -> None:
    skus = [variant.sku for product in _PRODUCTS.values() for variant in product.variants]
    assert all(skus)
    assert len(set(skus)) == len(skus)


def test_hero_is_a_sneaker_in_six_sizes() -> None:
    hero = _PRODUCTS["tarn-runner"]
    assert hero.option_names == ("Size",)
    assert [variant.option_values for variant in hero.variants] == [(str(size),) for size in range(230, 290, 10)]


def test_every_product_has_a_drawing_and_every_drawing_a_product() -> None:
    assert {path.name for path in demo.MEDIA.iterdir()} == {f"{handle}.svg" for handle in _PRODUCTS}


@pytest.mark.parametrize("handle", sorted(_PRODUCTS))
def test_drawing_is_small_and_cannot_run_or_load_anything(handle: str) -> None:
    path = demo.MEDIA / f"{handle}.svg"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 6 * 1024
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == "0 0 800 800"
    ids = {element.get("id") for element in root.iter()}
    for element in root.iter():
        assert element.tag.split("}")[-1] not in _FORBIDDEN_ELEMENTS
        for name, value in element.attrib.items():
            assert not name.split("}")[-1].startswith("on")
            assert name.split("}")[-1] not in {"href", "src", "style"}
            for reference in re.findall(r"url\((.*?)\)", value):
                assert reference.removeprefix("#") in ids, "a drawing refers to its own gradients only"
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_deals_are_on_products_of_the_catalogue_and_leave_pieces_for_everyone() -> None:
    assert [deal.opens_after_s for deal in deals.DEALS] == [0, 1_800, 86_400]
    assert deals.DEALS[0].lasts_s == 7 * 86_400
    for deal in deals.DEALS:
        for variant in _PRODUCTS[deal.handle].variants:
            allotment = variant.quantity * deal.allotment_percent // 100
            assert 0 < deal.limit_per_customer <= allotment < variant.quantity
            assert 0 < deals.deal_price_minor(variant.price_minor, deal.percent_off) < variant.price_minor


def test_deal_price_is_a_whole_number_of_minor_units_in_the_customers_favour() -> None:
    assert deals.deal_price_minor(12_900, 40) == 7_740
    assert deals.deal_price_minor(999, 50) == 499
    assert money.display(deals.deal_price_minor(12_900, 40), demo.CURRENCY) == "77.40 USD"
