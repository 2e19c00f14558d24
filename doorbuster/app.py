"""Composition root: mounts the domains' routes, subscribes their consumers, runs their sweepers, serves one worker.

`python -m doorbuster.app --socket PATH` is one worker with all built domains; everything else it needs stands in the
settings file named by DOORBUSTER_SETTINGS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Controller, Litestar, MediaType, Request, Response, Router, get
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from doorbuster import __version__, map
from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import consumers as deal_consumers
from doorbuster.domains.activation.deal import routes as deal_routes
from doorbuster.domains.commerce import order, payment
from doorbuster.domains.commerce.order import consumers as order_consumers
from doorbuster.domains.commerce.order import routes as order_routes
from doorbuster.domains.item import stock
from doorbuster.domains.item.catalog import routes as catalog_routes
from doorbuster.domains.item.price import consumers as price_consumers
from doorbuster.domains.item.price import routes as price_routes
from doorbuster.domains.item.stock import routes as stock_routes
from doorbuster.domains.user import account
from doorbuster.domains.user.account import routes as account_routes
from doorbuster.engines import payment_router
from doorbuster.engines.event_log import EventLog, Subscription
from doorbuster.platform import calls, db, settings, telemetry
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import Refusal, Unavailable
from doorbuster.platform.http import check_body, ctx_from, render_error, require_role
from doorbuster.platform.lean import with_lean_routes
from doorbuster.platform.rsgi import RsgiApp, serve_asgi
from doorbuster.surfaces.storefront import Check, Health
from doorbuster.surfaces.storefront import routes as storefront_routes

_LOG = structlog.get_logger("app")
MAX_BODY = 8_388_608
SATURATED_S = 2.0
_BY_DOMAIN = {
    "account": account_routes.ROUTES,
    "catalog": catalog_routes.ROUTES,
    "price": price_routes.ROUTES,
    "stock": stock_routes.ROUTES,
    "deal": deal_routes.ROUTES,
    "order": order_routes.ROUTES,
}
_ROUTES = [Router("/", route_handlers=handlers, tags=[name]) for name, handlers in _BY_DOMAIN.items()]

SUBSCRIPTIONS = (
    Subscription("item.price", "item.catalog", frozenset({"ItemChanged"}), price_consumers.on_item_changed),
    Subscription(
        "commerce.order", "commerce.payment", frozenset({"PaymentSettled"}), order_consumers.on_payment_settled, 0.1
    ),
    # A deal shows what is left of it as of a moment ago, however many orders there are.
    Subscription(
        "activation.deal", "item.stock", frozenset({"AllotmentChanged"}), deal_consumers.on_allotment_changed, 0.1
    ),
)

# (name, seconds between rounds, what to do). Every round may run in every worker at once.
SWEEPERS: tuple[tuple[str, float, Callable[[], Awaitable[int]]], ...] = (
    ("order", 0.5, lambda: order.sweep(SYSTEM, 64)),
    ("payment", 0.5, lambda: payment.resolve(SYSTEM, 64)),
    ("stock", 1.0, lambda: stock.sweep(SYSTEM, 256)),
    ("deal", 2.0, lambda: deal.sweep(SYSTEM, 16)),
    ("orphans", 10.0, lambda: order.release_orphans(SYSTEM)),
    ("tokens", 3_600.0, lambda: account.remove_expired(SYSTEM)),
)


@get("/livez", include_in_schema=False)
async def livez() -> Response[bytes]:
    """The event loop turns: nothing else is asked, so that no dependency can cause a restart."""
    return Response(b'{"status":"ok"}', media_type=MediaType.JSON)


@get("/readyz", include_in_schema=False)
async def readyz(state: State) -> Response[bytes]:
    """Whether this worker can take more: its own saturation only, or all workers would leave together."""
    if state.draining or state.probe.lag_s > SATURATED_S:
        return Response(b'{"status":"busy"}', status_code=503, media_type=MediaType.JSON)
    return Response(b'{"status":"ok"}', media_type=MediaType.JSON)


@get("/metrics", include_in_schema=False)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """This worker's metrics, for admins."""
    require_role(ctx_from(request), "admin")
    return Response(telemetry.metrics(), headers={"content-type": telemetry.METRICS_TYPE})


class ApiDescription(Controller):
    """The whole API as OpenAPI 3.1; given to the framework so that it adds no documentation routes of its own."""

    @get("/api/v1/openapi.json", include_in_schema=False)
    async def openapi(self, request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        """The document that /api/v1/docs shows."""
        document = request.app.openapi_schema.to_schema()
        for route in map.ROUTES:
            operation = document["paths"].get(route.path, {}).get(route.method.lower())
            if operation is not None and route.access is map.Access.OPEN:
                operation["security"] = []
        return Response(document, media_type=MediaType.JSON)


def create_app() -> Litestar:
    """The web application of one worker, with all built domains."""
    probe = telemetry.LoopProbe()

    @contextlib.asynccontextmanager
    async def background(app: Litestar) -> AsyncIterator[None]:
        log = EventLog()
        await log.start(SUBSCRIPTIONS)
        tasks = [asyncio.create_task(probe.run())]
        tasks += [asyncio.create_task(_sweep(name, every_s, work)) for name, every_s, work in SWEEPERS]
        try:
            yield
        finally:
            app.state.draining = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await log.stop()
            await payment_router.close()
            await db.close_all()

    def describe(config: AppConfig) -> AppConfig:
        config.openapi_config = OpenAPIConfig(
            title="Doorbuster",
            version=__version__,
            description="A commerce backend for time deals. Errors are problem+json (RFC 9457) with a stable `code`.",
            use_handler_docstrings=True,
            openapi_controller=ApiDescription,  # type: ignore[arg-type]  # any controller does
            components=Components(
                security_schemes={"token": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
            ),
            security=[{"token": []}],
        )
        return config

    return Litestar(
        route_handlers=[*_ROUTES, *storefront_routes.ROUTES, livez, readyz, metrics],
        exception_handlers={Exception: render_error},
        before_request=check_body,
        lifespan=[background],
        state=State({"probe": probe, "draining": False, "health": _health}),
        on_app_init=[describe],
        request_max_body_size=MAX_BODY,
        logging_config=None,
        debug=False,
    )


def create_served(framework: Litestar) -> RsgiApp:
    """What a worker serves: the hot routes leanly, everything else through the framework."""
    return with_lean_routes(serve_asgi(framework, MAX_BODY), order_routes.LEAN_ROUTES)


async def _health() -> Health:
    """What the front page says of this shop: its database, its payment provider, and the worker that answers."""
    checks = [Check("Worker", True, f"process {os.getpid()}, all {len(map.BUILT)} built services")]
    try:
        async with db.of("commerce.order").connection() as conn:
            version = await conn.fetchval("SHOW server_version")
        checks.append(Check("PostgreSQL", True, f"version {version.split()[0]}, fsync on"))
    except Unavailable as error:
        checks.append(Check("PostgreSQL", False, str(error)))
    for name, login in settings.current().providers.items():
        address = urlsplit(login.base_url)
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.close()
            checks.append(Check(f"Payment provider {name}", True, "accepts connections"))
        except (OSError, TimeoutError):
            checks.append(Check(f"Payment provider {name}", False, "does not accept connections"))
    return Health(tuple(checks))


async def _sweep(name: str, every_s: float, work: Callable[[], Awaitable[int]]) -> None:
    """Run one sweeper for ever: at once again while there is work, else after its pause."""
    while True:
        try:
            found = await work()
        except (Refusal, Unavailable) as error:
            _LOG.warning("sweeper_waits", sweeper=name, why=str(error))
            found = 0
        except Exception as error:
            # A bug in one round must not end the sweeper; it is loud in the log and in the metric of its absence.
            _LOG.error("sweeper_failed", sweeper=name, exc_info=error)
            found = 0
        await asyncio.sleep(0 if found else every_s)


async def serve(socket: Path) -> None:
    """Serve this worker on a Unix socket until SIGTERM or SIGINT, then finish what is in flight."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    socket.unlink(missing_ok=True)
    framework = create_app()
    _tame_garbage_collector()
    server = Server(
        create_served(framework), uds=socket, interface=Interfaces.RSGI, backlog=1024, backpressure=2048,
        log_enabled=False, websockets=False,
    )  # fmt: skip
    async with framework.lifespan():
        serving = asyncio.create_task(server.serve())
        await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        server.stop()  # type: ignore[no-untyped-call]
        await serving
    socket.unlink(missing_ok=True)


def _tame_garbage_collector() -> None:
    """Look for cycles rarely, and never among what lives as long as the process.

    Hundreds of requests in flight hold tens of thousands of young objects that the default thresholds walk again and
    again: a sixth of a worker's time. Nearly everything dies by reference count; what is left can wait.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def main() -> None:
    """One worker process."""
    parser = argparse.ArgumentParser(description="One Doorbuster worker on a Unix socket.")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--settings", help="the settings file; without it, DOORBUSTER_SETTINGS names it")
    arguments = parser.parse_args()
    now = settings.load(arguments.settings)
    telemetry.configure(now.log_level)
    calls.use_looped(now.calls == "looped")
    os.umask(0o077)
    uvloop.run(serve(arguments.socket))


if __name__ == "__main__":
    main()
