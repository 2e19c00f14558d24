"""Composition root: mounts the domains' routes, subscribes their consumers, runs their sweepers, serves one worker.

`python -m doorbuster.app --listen unix:PATH` is one worker with the domains its settings name, or all that are built;
everything else it needs stands in the settings file named by DOORBUSTER_SETTINGS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Controller, Litestar, MediaType, Request, Response, Router, get
from litestar.config.app import AppConfig
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from doorbuster import __version__, contracts, map, services
from doorbuster.background import SCHEDULED, SUBSCRIPTIONS
from doorbuster.domains.activation.deal import routes as deal_routes
from doorbuster.domains.commerce.ledger import routes as ledger_routes
from doorbuster.domains.commerce.order import routes as order_routes
from doorbuster.domains.commerce.payment import routes as payment_routes
from doorbuster.domains.item.catalog import routes as catalog_routes
from doorbuster.domains.item.price import routes as price_routes
from doorbuster.domains.item.stock import routes as stock_routes
from doorbuster.domains.user.account import routes as account_routes
from doorbuster.engines import payment_router
from doorbuster.engines.event_log import EventLog
from doorbuster.engines.event_log import routes as event_routes
from doorbuster.engines.event_log import status as event_status
from doorbuster.engines.event_log.kafka import KafkaEventLog
from doorbuster.engines.schedule import Scheduler
from doorbuster.platform import calls, db, remote, settings, telemetry, tracing
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.http import check_body, ctx_from, render_error, require_role
from doorbuster.platform.internal import InternalApi, with_internal
from doorbuster.platform.lean import with_lean_routes
from doorbuster.platform.remote import Remote, is_ready
from doorbuster.platform.request_spans import with_request_spans
from doorbuster.platform.rsgi import RsgiApp, behind_edge, serve_asgi
from doorbuster.platform.service_token import Signer, Verifier
from doorbuster.platform.settings import Settings
from doorbuster.surfaces.storefront import Check, Health
from doorbuster.surfaces.storefront import routes as storefront_routes

MAX_BODY = 8_388_608
SATURATED_S = 2.0
_ROUTES: dict[str, Sequence[Any]] = {
    "user.account": account_routes.ROUTES,
    "item.catalog": catalog_routes.ROUTES,
    "item.price": price_routes.ROUTES,
    "item.stock": stock_routes.ROUTES,
    "activation.deal": deal_routes.ROUTES,
    "commerce.payment": payment_routes.ROUTES,
    "commerce.order": order_routes.ROUTES,
    "commerce.ledger": ledger_routes.ROUTES,
}
_LEAN_ROUTES = {"commerce.order": order_routes.LEAN_ROUTES}


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
        document = _whole_description()
        for route in map.ROUTES:
            operation = document["paths"].get(route.path, {}).get(route.method.lower())
            if operation is not None and route.access is map.Access.OPEN:
                operation["security"] = []
        return Response(document, media_type=MediaType.JSON)


@functools.cache
def _whole_description() -> dict[str, Any]:
    """The API of all domains, wherever they run: the code of each is here even when its data is not."""
    return _framework(services.EVERYTHING, [], State()).openapi_schema.to_schema()


@get("/api/v1/asyncapi.json", include_in_schema=False)
async def get_asyncapi(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """What the services tell each other, as AsyncAPI 3; for whoever has an account."""
    ctx_from(request)
    return Response(contracts.asyncapi(), media_type=MediaType.JSON)


def create_app(here: services.Service = services.EVERYTHING) -> Litestar:
    """The web application of one worker, with the domains of one service."""
    probe = telemetry.LoopProbe()

    @contextlib.asynccontextmanager
    async def background(app: Litestar) -> AsyncIterator[None]:
        far = _connect(settings.current())
        log = KafkaEventLog() if settings.current().events == "kafka" else EventLog()
        heard = [one for one in SUBSCRIPTIONS if one.consumer in here.domains]
        await log.start(heard)
        tasks = [asyncio.create_task(probe.run()), asyncio.create_task(event_status.watch(heard))]
        scheduler = Scheduler([one for one in SCHEDULED if one.domain in here.domains])
        await scheduler.start()
        try:
            yield
        finally:
            app.state.draining = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(log.stop(), scheduler.stop())
            await payment_router.close()
            for remote in far:
                await remote.close()
            await db.close_all()

    return _framework(here, [background], State({"probe": probe, "draining": False, "health": _health}))


def _framework(here: services.Service, lifespan: list[Any], state: State) -> Litestar:
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

    routers = [
        Router("/", route_handlers=handlers, tags=[domain.split(".")[1]])
        for domain, handlers in _ROUTES.items()
        if domain in here.domains
    ]
    operated = [
        Router("/", route_handlers=event_routes.routes(domain.id, map.heard_by_source(domain)), tags=[domain.name])
        for domain in map.BUILT
        if domain.hears and domain.id in here.domains
    ]
    surface = [*storefront_routes.ROUTES, get_asyncapi] if here.has_storefront else []
    return Litestar(
        route_handlers=[*routers, *operated, *surface, livez, readyz, metrics],
        exception_handlers={Exception: render_error},
        before_request=check_body,
        lifespan=lifespan,
        state=state,
        on_app_init=[describe],
        request_max_body_size=MAX_BODY,
        logging_config=None,
        debug=False,
    )


def create_served(framework: Litestar) -> RsgiApp:
    """What a worker serves: the hot routes leanly, everything else through the framework, other services' calls."""
    now = settings.current()
    here = services.running(now.serves)
    lean = tuple(route for domain in here.domains for route in _LEAN_ROUTES.get(domain, ()))
    app = with_lean_routes(serve_asgi(framework, MAX_BODY), lean)
    if now.edge_secret_file:
        app = behind_edge(app, Path(now.edge_secret_file).read_text().strip())
    if now.service_keys:
        app = with_internal(app, InternalApi(here.domains, Verifier(now.service_keys), services.may_call))
    return with_request_spans(app) if tracing.is_on() else app


def _connect(now: Settings) -> list[Remote]:
    """Send the calls of domains that run elsewhere to where they run; returns the connections."""
    carriers = remote.connect(now.addresses, Signer(now.service, now.service_key_file)) if now.addresses else {}
    calls.use_far(carriers)
    return list(set(carriers.values()))


async def _health() -> Health:
    """What the front page says of this shop: its services, its database, its payment provider."""
    now = settings.current()
    here = services.running(now.serves)
    what = f"all {len(map.BUILT)} built services" if here.domains else "the storefront"
    checks = [Check("Worker", True, f"process {os.getpid()}, {what}")]
    for address in dict.fromkeys(now.addresses.values()):
        names = ", ".join(domain.split(".")[1] for domain, one in now.addresses.items() if one == address)
        well = await is_ready(address)
        checks.append(Check(f"Service of {names}", well, "is ready" if well else "does not answer"))
    if here.domains:
        checks.append(await _database_health(here.domains[0]))
    for name, login in now.providers.items():
        where = urlsplit(login.base_url)
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.close()
            checks.append(Check(f"Payment provider {name}", True, "accepts connections"))
        except (OSError, TimeoutError):
            checks.append(Check(f"Payment provider {name}", False, "does not accept connections"))
    return Health(tuple(checks))


async def _database_health(domain: str) -> Check:
    try:
        async with db.of(domain).connection() as conn:
            version = await conn.fetchval("SHOW server_version")
    except Unavailable as error:
        return Check("PostgreSQL", False, str(error))
    return Check("PostgreSQL", True, f"version {version.split()[0]}, fsync on")


async def serve(listen: str) -> None:
    """Serve on `unix:/path` or `host:port` until SIGTERM or SIGINT, then finish what is in flight."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    socket = Path(listen.removeprefix("unix:")) if listen.startswith("unix:") else None
    host, _, port = listen.rpartition(":")
    if socket is not None:
        socket.unlink(missing_ok=True)
    framework = create_app(services.running(settings.current().serves))
    _tame_garbage_collector()
    server = Server(
        create_served(framework), uds=socket, address=host, port=0 if socket else int(port),
        interface=Interfaces.RSGI, backlog=1024, backpressure=2048,
        log_enabled=False, websockets=False,
    )  # fmt: skip
    async with framework.lifespan():
        serving = asyncio.create_task(server.serve())
        await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        server.stop()  # type: ignore[no-untyped-call]
        await serving
    if socket is not None:
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
    parser = argparse.ArgumentParser(description="One Doorbuster worker.")
    parser.add_argument("--listen", required=True, help="unix:/path or host:port")
    parser.add_argument("--settings", help="the settings file; without it, DOORBUSTER_SETTINGS names it")
    parser.add_argument("--service", help="its name, when the settings name another")
    parser.add_argument("--serve", nargs="+", help="the domains to run, when the settings name others")
    arguments = parser.parse_args()
    now = settings.load(arguments.settings)
    if arguments.serve:
        now = settings.use(
            msgspec.structs.replace(now, service=arguments.service or now.service, serves=tuple(arguments.serve))
        )
    telemetry.configure(now.log_level)
    calls.use_looped(now.calls == "looped")
    os.umask(0o077)
    tracing.start(now.otlp_endpoint, now.service, now.trace_percent)
    try:
        uvloop.run(serve(arguments.listen))
    finally:
        tracing.stop()


if __name__ == "__main__":
    main()
