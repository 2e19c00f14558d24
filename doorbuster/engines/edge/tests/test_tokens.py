"""Which access tokens open a protected route, what a worker learns from them, and how fast a key is withdrawn."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from doorbuster.engines import edge
from doorbuster.engines.edge.tests.client import ask
from doorbuster.engines.edge.tests.conftest import Shop
from doorbuster.engines.edge.tests.tokens import bearer, claims, jwks, key, token

Headers = dict[str, str]
WITHDRAWN_WITHIN_S = 2.0


def _segment(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _bearer(text: str) -> Headers:
    return {"authorization": f"Bearer {text}"}


def _unsigned() -> Headers:
    return _bearer(f"{_segment({'alg': 'none', 'kid': 'one'})}.{_segment(claims())}.")


def _hmac_with_public_key() -> Headers:
    secret = key("one").public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    signed = f"{_segment({'alg': 'HS256', 'kid': 'one'})}.{_segment(claims())}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return _bearer(f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


def _other_algorithm() -> Headers:
    private = ec.generate_private_key(ec.SECP256R1())
    return _bearer(jwt.encode(claims(), private, algorithm="ES256", headers={"kid": "one"}))


def _forged(kid: str) -> Headers:
    return _bearer(jwt.encode(claims(), key("a thief's"), algorithm="RS256", headers={"kid": kid}))


def _own_key_in_header() -> Headers:
    embedded = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key("a thief's").public_key()))
    return _bearer(jwt.encode(claims(), key("a thief's"), algorithm="RS256", headers={"kid": "one", "jwk": embedded}))


def _tampered_claims() -> Headers:
    head, _, signature = token().split(".")
    return _bearer(f"{head}.{_segment(claims(roles='admin'))}.{signature}")


def _tampered_signature() -> Headers:
    head, payload, signature = token().split(".")
    return _bearer(f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")


def _two_tokens() -> Headers:
    return {"authorization": _forged("one")["authorization"], "Authorization": bearer()["authorization"]}


NOW = int(time.time())
REFUSED: dict[str, tuple[int, Callable[[], Headers]]] = {
    "none at all": (401, dict),
    "an empty one": (401, lambda: _bearer("")),
    "garbage": (401, lambda: _bearer("garbage")),
    "three parts of garbage": (401, lambda: _bearer("a.b.c")),
    "expired": (401, lambda: bearer(exp=NOW - 60)),
    "not valid yet": (401, lambda: bearer(nbf=NOW + 3600)),
    "without expiry": (401, lambda: bearer(exp=None)),
    "another issuer": (401, lambda: bearer(iss="https://elsewhere.test")),
    "without issuer": (401, lambda: bearer(iss=None)),
    "another audience": (403, lambda: bearer(aud="another-shop")),
    "without audience": (403, lambda: bearer(aud=None)),
    "unsigned (alg none)": (401, _unsigned),
    "HS256 with our public key": (401, _hmac_with_public_key),
    "ES256 under our key id": (401, _other_algorithm),
    "forged under our key id": (401, lambda: _forged("one")),
    "forged under an unknown key id": (401, lambda: _forged("unknown")),
    "a key of its own in the header": (401, _own_key_in_header),
    "tampered claims": (401, _tampered_claims),
    "tampered signature": (401, _tampered_signature),
    "cut short": (401, lambda: _bearer(token()[:-20])),
    "under another scheme": (401, lambda: {"authorization": f"Basic {token()}"}),
    "in a cookie": (401, lambda: {"cookie": f"access_token={token()}"}),
    "in a header of its own": (401, lambda: {"x-access-token": token()}),
    "two of them, the first forged": (401, _two_tokens),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_token_is_refused(shop: Shop, case: str) -> None:
    status, make = REFUSED[case]
    answer = await ask(shop.port, "GET", "/api/v1/account/me", make())
    assert answer.is_problem(status, "unauthenticated" if status == 401 else "forbidden")
    assert shop.book.seen == []


async def test_a_token_in_the_query_string_is_refused(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", f"/api/v1/account/me?access_token={token()}")
    assert answer.is_problem(401, "unauthenticated")
    assert shop.book.seen == []


async def test_a_good_token_becomes_headers_and_does_not_travel_on(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", "/api/v1/account/me?page=2", bearer(sub="u-7", roles="shopper merchant"))
    assert answer.status == 200
    seen = shop.book.seen[0]
    assert (seen.method, seen.target) == ("GET", "/api/v1/account/me?page=2")
    assert (seen.header("x-door-sub"), seen.header("x-door-roles")) == ("u-7", "shopper merchant")
    assert seen.header("authorization") is None


async def test_the_clock_may_differ_by_some_seconds(shop: Shop) -> None:
    assert (await ask(shop.port, "GET", "/api/v1/account/me", bearer(exp=int(time.time()) - 2))).status == 200


FORGED_IDENTITY = {
    "X-Door-Sub": "admin",
    "x-door-roles": "admin",
    "x-door-exp": "9",
    "x-door-anything": "1",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-host": "evil.test",
    "forwarded": "for=203.0.113.9",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "x-envoy-original-path": "/api/v1/order",
}


async def test_forged_identity_headers_reach_no_worker(shop: Shop) -> None:
    token_without_roles = bearer(sub="u-7", roles=None)
    assert (await ask(shop.port, "GET", "/api/v1/catalog", FORGED_IDENTITY | bearer())).status == 200
    assert (await ask(shop.port, "GET", "/api/v1/account/me", FORGED_IDENTITY | token_without_roles)).status == 200
    opened, protected = shop.book.seen
    assert [name for name, _ in opened.headers if name.startswith("x-door")] == []
    assert opened.header("authorization") is None
    assert [pair for pair in protected.headers if pair[0].startswith("x-door")] == [("x-door-sub", "u-7")]
    for seen in (opened, protected):
        values = [value for _, value in seen.headers]
        assert "203.0.113.9" not in " ".join(values)
        assert "evil.test" not in values
        assert seen.header("x-envoy-internal") is None, "nobody outside is trusted as if inside"
        assert seen.header("x-envoy-retry-on") is None
        assert seen.header("x-envoy-upstream-rq-timeout-ms") is None


async def test_a_withdrawn_key_is_refused_within_two_seconds_also_for_tokens_seen_before(own_shop: Shop) -> None:
    me, old, new = "/api/v1/account/me", bearer("one"), bearer("two")
    for _ in range(3):
        assert (await ask(own_shop.port, "GET", me, old)).status == 200
    model = msgspec.structs.replace(own_shop.model, jwks=jwks("two"))
    assert edge.write(edge.render(model), own_shop.directory) == ("ecds.json",)
    published = time.monotonic()
    while (await ask(own_shop.port, "GET", me, old)).status == 200:
        assert time.monotonic() - published < WITHDRAWN_WITHIN_S
        await asyncio.sleep(0.01)
    for _ in range(20):
        assert (await ask(own_shop.port, "GET", me, old)).is_problem(401, "unauthenticated")
    assert (await ask(own_shop.port, "GET", me, new)).status == 200
