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
    schema: str = ""
    """The schema to work in; empty: the user's own."""


class FeeTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an account at a provider costs for one sale: a rate in parts per million of the amount and a fixed part."""

    rate_ppm: int = 0
    fixed_minor: int = 0
    returned: bool = False
    """Whether the fee comes back with a refund."""
    tolerance_minor: int = 1
    """So much off is rounding."""

    def __post_init__(self) -> None:
        if not (0 <= self.rate_ppm <= 1_000_000 and self.fixed_minor >= 0 and self.tolerance_minor >= 0):
            raise ValueError("a fee is a rate of 0 to 1,000,000 parts per million and a fixed part of 0 or more")


class SettlementTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an account at a provider settles, for the daily reconciliation."""

    zone: str = "UTC"
    """Whose calendar days the provider's days are (an IANA name)."""
    grace_days: int = 2
    """So many days after a movement the provider may still be silent about it."""
    fees: dict[str, FeeTerms] = {}
    """By currency; `*` is any other. Without terms for its currency a fee is not checked."""

    def __post_init__(self) -> None:
        if not 0 <= self.grace_days <= 30:
            raise ValueError("grace_days is 0 to 30")


class ProviderLogin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account at a payment provider: where it answers, and the files that hold its secrets."""

    base_url: str
    secret_file: str
    kind: str = ""
    """Which provider's language it speaks (`toss`, `stripe`, …); empty: the account's own name."""
    webhook_secret_files: tuple[str, ...] = ()
    """All that are valid now: two while one is being replaced."""
    client_key: str = ""
    merchant: str = ""
    account: str = ""
    settlement: SettlementTerms = SettlementTerms()


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
    payment_case_after_s: float = 900.0
    payment_session_s: float = 600.0
    """How long a provider's window may be confirmed after it was opened."""
    """So long after an attempt was sent a person is told that its outcome is still unknown."""
    batch_limit: int = 512
    batch_writers: int = 1
    pool_size: int = 8
    calls: str = "near"
    log_level: str = "info"
    service: str = "shop"
    """The name of this service in tokens, traces and consumer groups: a group, a domain, or `shop` for all in one."""
    serves: tuple[str, ...] = ()
    """Domains that run in this process, as `group.domain`; none named: all that are built."""
    addresses: dict[str, str] = {}
    """Where the verbs of a domain elsewhere answer: `unix:/path` or `http://host:port`."""
    service_key_file: str = ""
    """The private key this service signs its own calls with; `service_keys` has everybody's public ones, by service."""
    service_keys: dict[str, str] = {}
    edge_secret_file: str = ""
    """Holds what the edge proves itself with where services listen on a network; not needed on Unix sockets."""
    outboxes: dict[str, DatabaseLogin] = {}
    """By group: the login that may read that group's outboxes and nothing else, whoever listens."""
    events: str = "postgres"
    """What carries facts between domains: `postgres` or `kafka`."""
    kafka: str = ""
    """Bootstrap servers, `host:port[,host:port]`."""
    otlp_endpoint: str = ""
    """Where spans are sent (OTLP over HTTP); empty: tracing is off and costs nothing."""
    trace_percent: float = 100.0
    """How many of all requests are traced while tracing is on. The edge draws, and everybody behind it follows."""


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
