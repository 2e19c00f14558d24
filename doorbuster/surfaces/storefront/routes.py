"""HTTP of the storefront: the front page, the documentation page and its files. Open to everyone, asked by browsers."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import structlog
from litestar import MediaType, Request, Response, get
from litestar.params import FromPath

from doorbuster.platform import settings
from doorbuster.platform.errors import NotFound
from doorbuster.platform.http import ctx_from
from doorbuster.surfaces.storefront import docs, front_page
from doorbuster.surfaces.storefront.front_page import DEFAULT_ORIGIN, Check, Health

HEALTH_S = 2.0
"""How long the front page waits for the health report before it says that there is none."""
_DAY_S = 86_400
_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]{2,45}\])(:[0-9]{1,5})?", re.ASCII)
_LOG = structlog.get_logger("storefront")
_ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


@get("/", include_in_schema=False)
async def get_front_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The front page, always 200: what is away is named on it."""
    page = await front_page.render_front_page(
        ctx_from(request, authenticated=False),
        await _health(request),
        origin=_origin(request),
        shop_name=settings.current().shop_name,
    )
    return _page(page, front_page.POLICY)


@get("/api/v1/docs", include_in_schema=False)
async def get_docs() -> Response[str]:
    """The documentation page."""
    return _page(docs.docs_page(), docs.POLICY)


@get("/api/v1/docs/{name:str}", include_in_schema=False)
async def get_docs_asset(name: FromPath[str]) -> Response[bytes]:
    """A file of the documentation page."""
    found = await asyncio.to_thread(docs.asset, name)
    if found is None:
        raise NotFound("The documentation has no such file; it starts at /api/v1/docs")
    content, media_type = found
    headers = _ALWAYS | {
        "cache-control": f"public, max-age={_DAY_S}",
        "content-security-policy": "default-src 'none'",
    }
    return Response(content, headers=headers, media_type=media_type)


def _page(html: str, policy: str) -> Response[str]:
    headers = _ALWAYS | {"cache-control": "no-cache", "content-security-policy": policy}
    return Response(html, headers=headers, media_type=MediaType.HTML)


async def _health(request: Request[Any, Any, Any]) -> Health:
    """What the composition root reports, or that it reports nothing in time."""
    report = request.app.state.get("health")
    if report is None:
        return Health(())
    try:
        async with asyncio.timeout(HEALTH_S):
            health: Health = await report()
            return health
    except TimeoutError:
        _LOG.warning("health_report_is_late", after_s=HEALTH_S)
        return Health((Check("Health report", False, f"no answer within {HEALTH_S:.0f} s"),))


def _origin(request: Request[Any, Any, Any]) -> str:
    """Where the reader reached the shop. It ends up in commands to copy, so only a plain host and port are believed."""
    host = request.headers.get("host", "")
    return f"https://{host}" if _HOST.fullmatch(host) else DEFAULT_ORIGIN


ROUTES = [get_front_page, get_docs, get_docs_asset]
