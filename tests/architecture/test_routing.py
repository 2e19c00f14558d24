"""What the map says is answered is what the application answers, under the names of the map."""

from __future__ import annotations

import pytest
from litestar.routes import HTTPRoute

from doorbuster.app import create_app
from doorbuster.map import DOMAINS, ROUTES, SHOP_ROUTES, Domain, Route
from tests.architecture.plant import told
from tests.architecture.rules import routing


@pytest.fixture(scope="module")
def answered() -> set[tuple[str, str]]:
    """(method, path) of everything the application answers; OPTIONS comes with every path by itself."""
    routes = [route for route in create_app().routes if isinstance(route, HTTPRoute)]
    return {(method, route.path_format) for route in routes for method in route.methods if method != "OPTIONS"}


def test_the_application_answers_exactly_the_routes_of_the_map(answered: set[tuple[str, str]]) -> None:
    assert told(routing.served(ROUTES, answered)) == []


def test_routes_stand_under_the_name_of_their_domain() -> None:
    assert told(routing.paths(DOMAINS, SHOP_ROUTES)) == []


def test_a_route_of_the_map_that_nobody_answers_is_caught(answered: set[tuple[str, str]]) -> None:
    found = told(routing.served((*ROUTES, Route("GET", "/api/v1/order/nothing")), answered))
    assert found == ["doorbuster/map.py:1: GET /api/v1/order/nothing is on the map and nobody answers it"]


def test_an_answer_that_is_not_on_the_map_is_caught(answered: set[tuple[str, str]]) -> None:
    found = told(routing.served(ROUTES, answered | {("DELETE", "/api/v1/order/{order_id}")}))
    assert len(found) == 1
    assert "not on the map" in found[0]


def test_another_method_on_a_known_path_is_caught(answered: set[tuple[str, str]]) -> None:
    changed = {("PATCH", path) if (method, path) == ("POST", "/api/v1/order") else (method, path)
               for method, path in answered}  # fmt: skip
    assert len(told(routing.served(ROUTES, changed))) == 2


def test_a_route_that_is_named_twice_is_caught(answered: set[tuple[str, str]]) -> None:
    assert "names a route twice" in told(routing.served((*ROUTES, ROUTES[0]), answered))[0]


@pytest.mark.parametrize(
    "path", ["/api/order", "/api/v1/orders", "/v1/order", "/api/v1/stock/{id}", "/order", "/api/v1/order/{id}/Pay"]
)
def test_a_path_outside_its_domains_name_is_caught(path: str) -> None:
    found = told(routing.paths((Domain("commerce", "order", "", routes=(Route("GET", path),)),), ()))
    assert len(found) == 1


@pytest.mark.parametrize("path", ["/api/v1/admin", "/login", "/api/v1/docs/{name}/x", "/healthz"])
def test_a_path_of_no_domain_is_caught(path: str) -> None:
    assert len(told(routing.paths((), (Route("GET", path),)))) == 1
