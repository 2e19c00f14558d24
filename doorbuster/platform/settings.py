"""What a process is told at its start: where its databases, sockets, keys and providers are.

One JSON file (mode 0600, because it holds passwords), named by DOORBUSTER_SETTINGS. Nothing else in the shop reads
the environment, so a test or a drill can start a worker by writing one file.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class DatabaseLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one domain reaches its schema. `host` is a directory for a Unix socket, or a host name."""

    host: str
    database: str
    user: str
    password: str
    port: int = 5432


class ProviderLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a payment provider answers and the file that holds its secret."""

    base_url: str
    secret_file: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a worker needs. Durations are seconds."""

    databases: dict[str, DatabaseLogin] = {}
    signing_key_file: str = ""
    issuer: str = "https://localhost:8443"
    shop_name: str = "Doorbuster"
    shop_currency: str = "USD"
    providers: dict[str, ProviderLogin] = {}
    demo_media_dir: str = ""
    payment_window_s: int = 600
    payment_timeout_s: float = 10.0
    batch_limit: int = 512
    batch_writers: int = 1
    pool_size: int = 8
    calls: str = "near"
    log_level: str = "info"


_current: Settings | None = None


def load(path: str | None = None) -> Settings:
    """Read the settings file (argument, else DOORBUSTER_SETTINGS) and make it current."""
    name = path or os.environ.get("DOORBUSTER_SETTINGS", "")
    assert name, "DOORBUSTER_SETTINGS names no settings file; start the shop with `doorbuster up`"
    return use(msgspec.json.decode(Path(name).read_bytes(), type=Settings))


def use(settings: Settings) -> Settings:
    """Make these settings current in this process."""
    global _current
    _current = settings
    return settings


def current() -> Settings:
    """The settings of this process."""
    assert _current is not None, "settings were not loaded: call settings.load() or settings.use() first"
    return _current


def write(settings: Settings, path: Path) -> None:
    """Write atomically with mode 0600."""
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(settings), indent=1))
    part.replace(path)
