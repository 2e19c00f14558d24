"""`doorbuster up`: which processes make a whole shop on one machine, in which order, and what each is told.

PostgreSQL, migrations, signing key, identical workers, the edge's files, Envoy; the sandbox provider, unless the
shop has accounts of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from doorbuster import demo, map, provider_accounts, provision, services
from doorbuster import on_kafka as kafka_shop
from doorbuster.domains.user.account import keys
from doorbuster.engines import edge
from doorbuster.engines.embedded import (
    Child,
    DataPaths,
    StartError,
    Supervisor,
    check_port_is_free,
    envoy_child,
    postgres_child,
    prepare_cluster,
)
from doorbuster.engines.embedded.postgres import CAPTURED
from doorbuster.platform import service_token
from doorbuster.platform import settings as settings_file
from doorbuster.platform.migrations import MigrationRefused
from doorbuster.platform.remote import is_ready
from doorbuster.platform.settings import FeeTerms, ProviderLogin, Settings, SettlementTerms
from doorbuster.platform.tls import DamagedCertificate, ensure_local_certificates

SANDBOX_SETTLEMENT = SettlementTerms(grace_days=1, fees={"*": FeeTerms(rate_ppm=29_000, returned=True)})
"""What the sandbox keeps of a sale, and that it settles within a day."""
LAYOUT = "layout"
"""The file of a data directory that says whether groups have databases of their own."""


class Options(msgspec.Struct, frozen=True):
    """What `up` was asked for. `overrides` are fields of Settings, for drills and benches."""

    port: int = 8443
    workers: int = 0
    """Workers that serve at once; 0 is one for every two cores. A single one has a second that stands by."""
    split: services.Split = ""
    """One process for each group or each domain, with a database for each group, instead of workers with everything."""
    events: str = "postgres"
    """What carries facts between domains: `postgres` or `kafka`."""
    host: str = "127.0.0.1"
    psp_faults: str = ""
    overrides: Mapping[str, object] = {}


def settings_path(paths: DataPaths) -> Path:
    """Where the workers' settings stand (mode 0600)."""
    return paths.root / "settings.json"


def issuer_of(port: int) -> str:
    """Who signs this shop's tokens."""
    return f"https://localhost:{port}"


async def compose(supervisor: Supervisor, options: Options) -> str:
    """Start everything in order; returns the shop's URL once the edge answers for at least one worker of each part."""
    check_port_is_free(options.port, options.host)
    _check_collector(str(options.overrides.get("otlp_endpoint", "")))
    paths, sockets = supervisor.paths, supervisor.socket_dir
    accounts = provider_accounts.read(paths.root)
    apart = _keep_layout(paths, options.split)
    server = prepare_cluster(paths, sockets)
    on_kafka = options.events == "kafka"
    await supervisor.start(postgres_child(server, CAPTURED if on_kafka else None))
    broker = await kafka_shop.start_broker(supervisor, paths) if on_kafka else None
    by_domain = provision.passwords(paths.keys)
    try:
        await provision.migrate_shop(server, by_domain, apart=apart, events=options.events)
        certificates = ensure_local_certificates(paths.keys)
    except MigrationRefused as refused:
        raise StartError(str(refused), "Nothing was changed.") from refused
    except DamagedCertificate as damaged:
        raise StartError(damaged.message, damaged.hint) from damaged
    signing_key = paths.keys / "signing.pem"
    keys.ensure_signing_key(signing_key)
    if not accounts:
        await supervisor.start(_provider(paths, options))
    if broker is not None:
        await kafka_shop.start_feeds(supervisor, broker, server, by_domain, apart=apart)
    whole = _settings(paths, options, str(sockets), by_domain, accounts)
    whole = msgspec.structs.replace(whole, events=options.events, kafka=broker.bootstrap if broker else "")
    settings_file.write(whole, settings_path(paths))
    parts = services.plan(options.split)
    running = _workers(paths, sockets, parts, whole, options)
    await supervisor.start(*(worker for part in running for worker in (*part.serving, *part.standby)))
    model = edge.EdgeModel(
        directory=str(paths.edge),
        host=options.host,
        port=options.port,
        routes=map.ROUTES,
        upstreams=running[-1].upstreams,
        standby=tuple(worker.address for worker in running[-1].standby),
        services=tuple(
            edge.Service(part.service.name.replace(".", "-"), part.upstreams, _routes(part.service))
            for part in running[:-1]
        ),
        certificate_path=str(certificates.certificate),
        key_path=str(certificates.key),
        jwks=keys.jwks(signing_key),
        issuer=issuer_of(options.port),
        access_log_path=str(paths.logs / "edge-refusals.log"),
        admin_socket=str(sockets / "envoy-admin.sock"),
        otlp_endpoint=whole.otlp_endpoint,
        trace_percent=whole.trace_percent,
    )
    edge.write(edge.render(model), paths.edge)
    await supervisor.start(
        envoy_child(paths.edge / "bootstrap.json", Path(model.admin_socket), options.port, model.concurrency)
    )
    return issuer_of(options.port)


def is_apart(data: Path) -> bool:
    """Whether the shop of a data directory has a database for each group."""
    mark = data / LAYOUT
    return mark.exists() and mark.read_text().strip() == "groups"


def _keep_layout(paths: DataPaths, split: services.Split) -> bool:
    """Whether each group has its own database; a data directory keeps the layout it was made with."""
    mark, wanted = paths.root / LAYOUT, "groups" if split else "one"
    made = (paths.pg / "PG_VERSION").exists()
    found = mark.read_text().strip() if mark.exists() else "one"
    if made and found != wanted:
        how = "one database for each group" if found == "groups" else "everything in one database"
        raise StartError(
            f"The shop in {paths.root} was made with {how}.",
            f"Start it {'with' if found == 'groups' else 'without'} --split, or take another --data directory.",
        )
    mark.write_text(wanted + "\n")
    return wanted == "groups"


class _Part(msgspec.Struct, frozen=True):
    """A service and the processes that run it."""

    service: services.Service
    serving: tuple[Child, ...]
    standby: tuple[Child, ...] = ()

    @property
    def upstreams(self) -> tuple[str, ...]:
        return tuple(worker.address for worker in self.serving)


def _routes(service: services.Service) -> tuple[map.Route, ...]:
    return tuple(route for domain in service.domains for route in map.BY_ID[domain].routes)


def _heard_groups(service: services.Service) -> list[str]:
    """The groups whose facts a service's domains hear."""
    return sorted({fact.split(".")[0] for domain in service.domains for fact in map.BY_ID[domain].hears})


def _workers(
    paths: DataPaths, sockets: Path, parts: Sequence[services.Service], whole: Settings, options: Options
) -> list[_Part]:
    """The processes of each service; those that run apart get settings of their own, with what they need only."""
    if len(parts) == 1:
        serving = options.workers or max(1, len(os.sched_getaffinity(0)) // 2)
        # The other half of the cores is for PostgreSQL and the edge; and one worker commits larger batches of a hot
        # item than two that take turns at its rows (decision 0016).
        every = [_worker(sockets, f"worker-{number}", settings_path(paths)) for number in range(1, max(2, serving) + 1)]
        return [_Part(parts[0], tuple(every[:serving]), tuple(every[serving:]))]
    key_files = {part.name: paths.keys / f"service-{part.name}.pem" for part in parts}
    public = {name: service_token.ensure_key(file) for name, file in key_files.items()}
    address = {domain: f"unix:{sockets / part.name}.sock" for part in parts for domain in part.domains}
    running = []
    for part in parts:
        own = msgspec.structs.replace(
            whole,
            service=part.name,
            serves=part.serves,
            databases={domain: whole.databases[domain] for domain in part.domains},
            outboxes={group: whole.outboxes[group] for group in _heard_groups(part)},
            addresses={domain: where for domain, where in address.items() if domain not in part.domains},
            service_key_file=str(key_files[part.name]),
            service_keys=public,
        )
        file = paths.run / f"settings-{part.name}.json"
        settings_file.write(own, file)
        running.append(_Part(part, (_worker(sockets, part.name, file),)))
    return running


def _settings(
    paths: DataPaths,
    options: Options,
    sockets: str,
    by_domain: dict[str, str],
    accounts: dict[str, ProviderLogin],
) -> Settings:
    apart = bool(options.split)
    usual = Settings(
        databases=provision.logins(sockets, by_domain, apart=apart),
        outboxes=provision.outboxes(sockets, by_domain, apart=apart),
        signing_key_file=str(paths.keys / "signing.pem"),
        issuer=issuer_of(options.port),
        shop_name=demo.SHOP_NAME,
        shop_currency=demo.CURRENCY,
        providers=accounts
        or {
            "sandbox": ProviderLogin(
                _provider_url(paths), str(paths.keys / "psp-sandbox"), settlement=SANDBOX_SETTLEMENT
            )
        },
        demo_media_dir=str(demo.MEDIA),
    )
    return msgspec.structs.replace(usual, **options.overrides)


def _check_collector(endpoint: str) -> None:
    if endpoint and not re.fullmatch(r"http://[\w.-]+(:\d{1,5})?/?", endpoint):
        raise StartError(
            f"Spans can not be sent to {endpoint!r}.",
            "Name a collector that takes OTLP over plain HTTP, for example http://127.0.0.1:4318.",
        )


def _provider(paths: DataPaths, options: Options) -> Child:
    """The sandbox provider: its port is kept, so that a restart answers where the workers expect it."""
    secret = paths.keys / "psp-sandbox"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
    ready_file = paths.run / "psp-sandbox.json"
    ready_file.unlink(missing_ok=True)
    argv = [
        sys.executable, "-m", "doorbuster.simulators.sandbox", "--port", "0",
        "--ledger", str(paths.root / "psp-sandbox.ledger"), "--secret-file", str(secret),
        "--ready-file", str(ready_file),
    ]  # fmt: skip
    if options.psp_faults:
        argv += ["--faults", options.psp_faults]
    port = {"now": "0"}

    async def keep_port() -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            port["now"] = str(msgspec.json.decode(ready_file.read_bytes())["port"])
            argv[argv.index("--port") + 1] = port["now"]
        ready_file.unlink(missing_ok=True)

    async def ready() -> bool:
        return ready_file.exists()

    return Child(name="psp-sandbox", argv=argv, ready=ready, before_start=keep_port, address="simulator")


def _provider_url(paths: DataPaths) -> str:
    where = msgspec.json.decode((paths.run / "psp-sandbox.json").read_bytes())
    return f"http://{where['host']}:{where['port']}"


def _worker(sockets: Path, name: str, settings: Path) -> Child:
    socket = sockets / f"{name}.sock"

    async def ready() -> bool:
        return await is_ready(f"unix:{socket}", 2.0)

    async def forget_socket() -> None:
        socket.unlink(missing_ok=True)

    return Child(
        name=name,
        argv=[sys.executable, "-m", "doorbuster.app", "--listen", f"unix:{socket}", "--settings", str(settings)],
        ready=ready,
        address=str(socket),
        before_start=forget_socket,
        stop_grace_s=15.0,
    )
