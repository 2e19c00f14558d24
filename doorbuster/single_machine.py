"""`doorbuster up`: which processes make a whole shop on one machine, in which order, and what each is told.

PostgreSQL, migrations, signing key, the sandbox provider, identical workers, the edge's files, Envoy.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec

from doorbuster import demo, map, provision
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
from doorbuster.platform import settings as settings_file
from doorbuster.platform.migrations import MigrationRefused
from doorbuster.platform.settings import ProviderLogin, Settings
from doorbuster.platform.tls import DamagedCertificate, ensure_local_certificates


class Options(msgspec.Struct, frozen=True):
    """What `up` was asked for. `overrides` are fields of Settings, for drills and benches."""

    port: int = 8443
    workers: int = 0
    """Workers that serve at once; 0 is one for every two cores. A single one has a second that stands by."""
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
    """Start everything in order; returns the shop's URL once the edge answers for at least one worker."""
    check_port_is_free(options.port, options.host)
    paths, sockets = supervisor.paths, supervisor.socket_dir
    server = prepare_cluster(paths, sockets)
    await supervisor.start(postgres_child(server))
    by_domain = provision.passwords(paths.keys)
    try:
        await provision.migrate_shop(server.dsn(), server.dsn(database=provision.DATABASE), by_domain)
        certificates = ensure_local_certificates(paths.keys)
    except MigrationRefused as refused:
        raise StartError(str(refused), "Nothing was changed.") from refused
    except DamagedCertificate as damaged:
        raise StartError(damaged.message, damaged.hint) from damaged
    signing_key = paths.keys / "signing.pem"
    keys.ensure_signing_key(signing_key)
    await supervisor.start(_provider(paths, options))
    provider_url = _provider_url(paths)
    settings_file.write(
        _settings(paths, options, signing_key, provider_url, provision.logins(str(sockets), by_domain)),
        settings_path(paths),
    )
    serving = options.workers or max(1, len(os.sched_getaffinity(0)) // 2)
    # The other half of the cores is for PostgreSQL and the edge; and one worker commits larger batches of a hot item
    # than two that take turns at its rows (decision 0016).
    workers = [_worker(paths, sockets, number) for number in range(1, max(2, serving) + 1)]
    await supervisor.start(*workers)
    addresses = tuple(worker.address for worker in workers)
    model = edge.EdgeModel(
        directory=str(paths.edge),
        host=options.host,
        port=options.port,
        routes=map.ROUTES,
        upstreams=addresses[:serving],
        standby=addresses[serving:],
        certificate_path=str(certificates.certificate),
        key_path=str(certificates.key),
        jwks=keys.jwks(signing_key),
        issuer=issuer_of(options.port),
        access_log_path=str(paths.logs / "edge-refusals.log"),
        admin_socket=str(sockets / "envoy-admin.sock"),
    )
    edge.write(edge.render(model), paths.edge)
    await supervisor.start(
        envoy_child(paths.edge / "bootstrap.json", Path(model.admin_socket), options.port, model.concurrency)
    )
    return issuer_of(options.port)


def _settings(
    paths: DataPaths,
    options: Options,
    signing_key: Path,
    provider_url: str,
    logins: dict[str, settings_file.DatabaseLogin],
) -> Settings:
    usual = Settings(
        databases=logins,
        signing_key_file=str(signing_key),
        issuer=issuer_of(options.port),
        shop_name=demo.SHOP_NAME,
        shop_currency=demo.CURRENCY,
        providers={"sandbox": ProviderLogin(provider_url, str(paths.keys / "psp-sandbox"))},
        demo_media_dir=str(demo.MEDIA),
    )
    return msgspec.structs.replace(usual, **options.overrides)


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


def _worker(paths: DataPaths, sockets: Path, number: int) -> Child:
    socket = sockets / f"worker-{number}.sock"

    async def ready() -> bool:
        return await answers(socket)

    async def forget_socket() -> None:
        socket.unlink(missing_ok=True)

    return Child(
        name=f"worker-{number}",
        argv=[
            sys.executable, "-m", "doorbuster.app", "--socket", str(socket), "--settings", str(settings_path(paths)),
        ],
        ready=ready,
        address=str(socket),
        before_start=forget_socket,
        stop_grace_s=15.0,
    )  # fmt: skip


async def answers(socket: Path) -> bool:
    """Whether a worker says that it is ready."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(socket)), timeout=aiohttp.ClientTimeout(total=2)
            ) as session,
            session.get("http://worker/readyz") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
