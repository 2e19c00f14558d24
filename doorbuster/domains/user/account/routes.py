"""Accounts over HTTP: sign-up, login, refresh, logout, who am I, and the public keys."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import JSONBody

from doorbuster.domains.user.account import keys, service
from doorbuster.domains.user.account.models import Account, Credentials, Refresh, SignUp, Tokens
from doorbuster.platform import settings
from doorbuster.platform.http import ctx_from

AnyRequest = Request[Any, Any, Any]
_NO_STORE = {"cache-control": "no-store"}


@post("/api/v1/account/signup", status_code=201, summary="Sign up")
async def sign_up(request: AnyRequest, data: JSONBody[SignUp]) -> Response[Account]:
    """A new account with the role shopper; log in to get tokens."""
    account = await service.sign_up(ctx_from(request, authenticated=False), data)
    return Response(account, status_code=201, headers=_NO_STORE)


@post("/api/v1/account/login", status_code=200, summary="Log in")
async def log_in(request: AnyRequest, data: JSONBody[Credentials]) -> Response[Tokens]:
    """An access token for 15 minutes and a refresh token for 30 days. The answer never says if an address is known."""
    return Response(await service.log_in(ctx_from(request, authenticated=False), data), headers=_NO_STORE)


@post("/api/v1/account/refresh", status_code=200, summary="Refresh tokens")
async def refresh(request: AnyRequest, data: JSONBody[Refresh]) -> Response[Tokens]:
    """The next tokens. Each refresh token is good once; one that comes twice ends the whole session."""
    return Response(await service.refresh(ctx_from(request, authenticated=False), data), headers=_NO_STORE)


@post("/api/v1/account/logout", status_code=204, summary="Log out")
async def log_out(request: AnyRequest, data: JSONBody[Refresh]) -> None:
    """End the session that this refresh token belongs to."""
    await service.log_out(ctx_from(request), data)


@get("/api/v1/account/me", summary="Who am I")
async def me(request: AnyRequest) -> Response[Account]:
    """The account that the access token belongs to."""
    return Response(await service.me(ctx_from(request)), headers=_NO_STORE)


@get("/api/v1/account/jwks", summary="Public keys")
async def jwks() -> Response[bytes]:
    """The JWK set (RFC 7517) that verifies this shop's access tokens."""
    content = keys.jwks(settings.current().signing_key_file).encode()
    return Response(content, media_type="application/json", headers={"cache-control": "public, max-age=300"})


ROUTES: list[Any] = [sign_up, log_in, refresh, log_out, me, jwks]
