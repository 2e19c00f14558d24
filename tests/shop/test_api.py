"""The API through TLS and the edge: who may call what, one format for every no, and a fuzzed OpenAPI document."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from doorbuster import client, map
from doorbuster.drills.bench import measure
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.map import Access

SOME_ID = "01a2051b-6a3a-744d-ad72-29b734d4f0c4"


@pytest.fixture
def web(shop_up: DrilledShop) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(shop_up.as_client().authority))
    return httpx.Client(base_url=shop_up.url, verify=context, timeout=20)


def concrete(path: str) -> str:
    name = "tarn-runner.svg" if "media" in path else "swagger-ui.css"
    for part in ("{item_id}", "{option_id}", "{deal_id}", "{order_id}"):
        path = path.replace(part, SOME_ID)
    return path.replace("{name}", name)


@pytest.mark.parametrize("route", map.ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_only_open_routes_answer_without_a_token(web: httpx.Client, route: map.Route) -> None:
    answer = web.request(route.method, concrete(route.path), json={} if route.method != "GET" else None)
    if route.access is Access.OPEN:
        assert answer.status_code not in (401, 403, 405)
    else:
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/order", "/admin", "/api/v1/order/", "/API/v1/order"])
def test_what_is_not_in_the_map_is_not_found(web: httpx.Client, path: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_wrong_method_names_the_right_ones(web: httpx.Client) -> None:
    answer = web.delete("/api/v1/deal")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


def test_the_document_describes_the_map_and_nothing_else(web: httpx.Client) -> None:
    document = web.get("/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for route in map.ROUTES:
        operation = document["paths"].get(route.path, {}).get(route.method.lower(), {})
        needs_token = operation.get("security", document["security"]) != []
        assert not operation or needs_token == (route.access is not map.Access.OPEN), (route.method, route.path)
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    assert described == {(route.method, route.path) for domain in map.BUILT for route in domain.routes}


def test_the_shop_commits_durably(shop_up: DrilledShop) -> None:
    assert asyncio.run(measure.durability(shop_up.dsn)) == dict.fromkeys(measure.DURABLE, "on")


def test_a_server_that_does_not_commit_durably_is_refused(shop_up: DrilledShop) -> None:
    async def weaken_and_look() -> None:
        connection = await asyncpg.connect(shop_up.dsn)
        await connection.execute("ALTER ROLE postgres SET synchronous_commit = off")
        try:
            await measure.durability(shop_up.dsn)
        finally:
            await connection.execute("ALTER ROLE postgres RESET synchronous_commit")
            await connection.close()

    with pytest.raises(measure.NotDurable, match="synchronous_commit"):
        asyncio.run(weaken_and_look())


@pytest.mark.timeout(300)
def test_a_fuzzed_api_never_answers_with_a_server_error(shop_up: DrilledShop) -> None:
    shop = shop_up.as_client()
    token = client.token(shop.settings, "admin")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"{shop_up.url}/api/v1/openapi.json",
            "--checks", "not_a_server_error", "--max-examples", "8", "--phases", "examples,fuzzing",
            "-H", f"Authorization: Bearer {token}", "--tls-verify", str(shop.authority),
            "--suppress-health-check", "all", "--seed", "1", "--request-timeout", "20", "--max-failures", "5",
        ],
        capture_output=True, text=True, timeout=290, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-1_000:]
