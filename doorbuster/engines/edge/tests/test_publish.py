"""Publishing: what Envoy would refuse is found before, a broken file changes nothing, a good one fails no request."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import msgspec
import pytest

from doorbuster.engines import edge
from doorbuster.engines.edge.routes import route_configuration
from doorbuster.engines.edge.tests.client import ask
from doorbuster.engines.edge.tests.conftest import PROBES, Shop, model_in
from doorbuster.map import ROUTES, Access, Route


async def test_the_map_is_accepted_by_envoy(tmp_path: Path) -> None:
    await edge.validate(model_in(tmp_path, routes=ROUTES))


BAD_MODELS: dict[str, dict[str, object]] = {
    "a certificate that is not there": {"certificate_path": "/nowhere/edge.crt"},
    "a key that is not the certificate's": {"key_path": "/dev/null"},
    "a JWKS without a usable key": {"jwks": '{"keys":[{"kty":"RSA","kid":"one"}]}'},
    "a port that cannot be": {"port": 99_999},
    "a host that is a name": {"host": "not an address"},
    "a negative timeout": {"routes": (Route("GET", "/", timeout_s=-1),)},
    "a body limit of nothing": {"routes": (Route("POST", "/", body_limit=0),)},
    "a request timeout of no number": {"request_timeout_s": float("nan")},
}


@pytest.mark.parametrize("case", BAD_MODELS)
async def test_a_bad_model_is_refused_with_a_reason(tmp_path: Path, case: str) -> None:
    model = model_in(tmp_path, **BAD_MODELS[case])
    with pytest.raises(edge.EdgeRefused) as refused:
        await edge.validate(model)
    assert len(str(refused.value)) > 20
    assert not (tmp_path / "rds.json").exists(), "validation publishes nothing"


def test_a_model_that_would_open_a_hole_cannot_be_made(tmp_path: Path) -> None:
    private = json.dumps({"keys": [{"kty": "RSA", "n": "x", "e": "AQAB", "d": "secret"}]})
    for changes in ({"jwks": private}, {"upstreams": ()}, {"directory": "relative"}, {"admin_socket": "/" + "a" * 120}):
        with pytest.raises(ValueError, match=r"edge needs|private|longer"):
            model_in(tmp_path, **changes)


def test_routes_that_nothing_can_order_are_refused() -> None:
    twice = (Route("GET", "/a/{x}"), Route("GET", "/a/{y}", Access.OPEN))
    crossing = (Route("GET", "/{x}/b"), Route("GET", "/a/{y}", Access.OPEN))
    for routes in (twice, crossing):
        with pytest.raises(edge.AmbiguousRoutes):
            route_configuration(routes)


def test_every_line_of_the_table_asks_for_a_token_or_is_open_in_the_map() -> None:
    table = route_configuration(ROUTES + PROBES)["virtual_hosts"][0]["routes"]
    opened = {f"{route.method} {route.path}" for route in ROUTES + PROBES if route.access is Access.OPEN}
    for line in table:
        rule = line["typed_per_filter_config"]["envoy.filters.http.jwt_authn"]
        if rule.get("disabled"):
            assert "direct_response" in line or line["name"] in opened, line["name"]
        else:
            assert rule["requirement_name"] == "required"
            assert line["name"] not in opened
    assert table[-1]["match"] == {"prefix": "/"}
    assert table[-1]["direct_response"] == {"status": 404}


def test_rendering_is_pure_and_publishing_twice_disturbs_nothing(tmp_path: Path) -> None:
    model = model_in(tmp_path)
    assert edge.render(model) == edge.render(model)
    assert set(edge.write(edge.render(model), tmp_path)) == set(edge.render(model))
    assert edge.write(edge.render(model), tmp_path) == ()
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("*.json")} == {"0o600"}
    assert not list(tmp_path.glob("*.part"))


async def test_a_broken_file_changes_no_answer(own_shop: Shop) -> None:
    unknown_cluster = (own_shop.directory / "rds.json").read_bytes().replace(b'"shop"', b'"elsewhere"')
    for content in (b"{", b'{"version_info":"2","resources":[{"@type":"unknown"}]}', unknown_cluster):
        part = own_shop.directory / "rds.part"
        part.write_bytes(content)
        os.replace(part, own_shop.directory / "rds.json")  # noqa: PTH105
        await asyncio.sleep(0.1)
        assert (await ask(own_shop.port, "GET", "/api/v1/catalog")).status == 200
        assert (await ask(own_shop.port, "GET", "/api/v1/order")).status == 401


async def test_new_routes_arrive_without_a_failed_request(own_shop: Shop) -> None:
    added = Route("GET", "/api/v1/added", Access.OPEN)
    models = [
        msgspec.structs.replace(own_shop.model, routes=own_shop.model.routes + extra) for extra in ((added,), ()) * 5
    ]
    failed = 0
    stop = asyncio.Event()

    async def load() -> int:
        sent = 0
        nonlocal failed
        while not stop.is_set():
            failed += (await ask(own_shop.port, "GET", "/api/v1/catalog")).status != 200
            sent += 1
        return sent

    loads = [asyncio.create_task(load()) for _ in range(4)]
    for number, model in enumerate(models):
        assert edge.write(edge.render(model), own_shop.directory) == ("rds.json",)
        wanted = 200 if number % 2 == 0 else 404
        async with asyncio.timeout(2):
            while (await ask(own_shop.port, "GET", added.path)).status != wanted:
                await asyncio.sleep(0.005)
    stop.set()
    assert sum(await asyncio.gather(*loads)) > 20
    assert failed == 0
