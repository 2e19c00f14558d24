"""What a load run shall do, as a frozen value and as a JSON or msgpack file."""

import math
import random
from array import array
from pathlib import Path
from typing import Literal

import msgspec

MAX_REQUESTS = 5_000_000
MAX_CONNECTIONS = 10_000
MAX_TRIES = 1_000

Failure = Literal["connection_error", "timeout"]
# (route, token, body, key): positions in Plan.routes, .tokens and .bodies, -1 for "none"; then the Idempotency-Key.
Row = tuple[int, int, int, str | None]


class BadPlan(ValueError):
    """The plan contradicts itself or leaves a limit; nothing was sent."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request written out. For many alike, use Plan.rows: a tenth of the memory."""

    method: str
    path: str
    headers: dict[str, str] = {}
    body: str | None = None
    token: str | None = None
    idempotency_key: str | None = None
    tag: str = ""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What many rows share: where they go and the tag they are counted under."""

    method: str
    path: str
    headers: dict[str, str] = {}
    tag: str = ""


class RetrySameKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send the identical bytes again after these outcomes; max_tries counts the first try too."""

    max_tries: int
    backoff_ms: float
    on: tuple[Failure | int, ...] = ("connection_error", "timeout", 503)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole run. Requests come from `requests` or, compact, from `rows`: in order, each at most once unless `cycle`.

    It ends at whichever comes first: duration_s, requests_total, the end of the list; `limit_s` bounds it in any case.
    What is out at the end has drain_s (default: timeout_s) to be answered.
    """

    host: str
    port: int
    ca_file: str
    server_name: str = "localhost"
    connections: int
    mode: Literal["closed", "open"] = "closed"
    rate_per_s: float | None = None
    arrivals: Literal["exact", "uniform"] = "exact"
    duration_s: float | None = None
    requests_total: int | None = None
    warmup_s: float = 0.0
    timeout_s: float = 10.0
    seed: int = 0
    record: Literal["histogram", "each"] = "histogram"
    extract: bool = True
    requests: list[Request] = []
    routes: list[Route] = []
    tokens: list[str] = []
    bodies: list[str] = []
    rows: list[Row] = []
    cycle: bool = False
    retry_same_key: RetrySameKey | None = None
    max_backlog: int = 50_000
    drain_s: float | None = None
    reconnect_backoff_ms: float = 10.0
    reconnect_backoff_max_ms: float = 500.0
    reconnect_give_up_s: float = 30.0
    progress_every_s: float = 0.5
    limit_s: float = 600.0


def check_plan(plan: Plan) -> None:
    """Refuse with BadPlan what can not be run as written."""
    count = len(plan.requests) or len(plan.rows)
    claims = {
        "exactly one of requests and rows": bool(plan.requests) != bool(plan.rows),
        f"1 to {MAX_CONNECTIONS} connections": 1 <= plan.connections <= MAX_CONNECTIONS,
        "an open loop needs rate_per_s > 0": plan.mode == "closed" or (plan.rate_per_s or 0) > 0,
        "a cycle needs duration_s or requests_total": not plan.cycle
        or plan.duration_s is not None
        or plan.requests_total is not None,
        "limit_s >= duration_s > warmup_s >= 0": plan.warmup_s >= 0
        and (plan.duration_s is None or plan.limit_s >= plan.duration_s > plan.warmup_s),
        "0 < timeout_s <= limit_s <= 86400": 0 < plan.timeout_s <= plan.limit_s <= 86_400,
        "requests_total >= 1": plan.requests_total is None or plan.requests_total >= 1,
        f"at most {MAX_REQUESTS} requests": max(count, plan.requests_total or 0, _by_rate(plan)) <= MAX_REQUESTS,
        "max_backlog >= 1": plan.max_backlog >= 1,
        "drain_s >= 0": plan.drain_s is None or plan.drain_s >= 0,
        "progress_every_s >= 0.05": plan.progress_every_s >= 0.05,
        "0 < reconnect_backoff_ms <= reconnect_backoff_max_ms": 0
        < plan.reconnect_backoff_ms
        <= plan.reconnect_backoff_max_ms,
        f"1 to {MAX_TRIES} tries, backoff_ms >= 0": plan.retry_same_key is None
        or (1 <= plan.retry_same_key.max_tries <= MAX_TRIES and plan.retry_same_key.backoff_ms >= 0),
        "no HEAD (its answer announces a body that never comes)": all(
            method.upper() != "HEAD"
            for method in (*(shape.method for shape in plan.requests), *(shape.method for shape in plan.routes))
        ),
        "rows point into routes, tokens and bodies": all(
            0 <= route < len(plan.routes) and -1 <= token < len(plan.tokens) and -1 <= body < len(plan.bodies)
            for route, token, body, _ in plan.rows
        ),
    }
    broken = [claim for claim, holds in claims.items() if not holds]
    if broken:
        raise BadPlan("a load plan must have: " + "; ".join(broken))


def requests_to_issue(plan: Plan) -> int:
    """How many requests the run may start; a closed loop may be ended earlier by its duration."""
    count = len(plan.requests) or len(plan.rows)
    bounds = [MAX_REQUESTS if plan.cycle else count]
    if plan.requests_total is not None:
        bounds.append(plan.requests_total)
    if plan.mode == "open" and plan.duration_s is not None:
        bounds.append(_by_rate(plan))
    return min(bounds)


def due_times(plan: Plan) -> "array[float]":
    """Seconds after the start at which each request of an open loop is due, ascending.

    exact: i/rate. uniform: seeded uniform draws over the same span, sorted: a Poisson process given its count.
    """
    count = requests_to_issue(plan)
    rate = plan.rate_per_s or 0.0
    assert rate > 0, "check_plan lets no open loop pass without a rate"
    if plan.arrivals == "exact":
        return array("d", (position / rate for position in range(count)))
    draw = random.Random(plan.seed).random  # noqa: S311  a repeatable schedule, no secret
    span_s = count / rate
    return array("d", sorted(draw() * span_s for _ in range(count)))


def read_plan(path: Path) -> Plan:
    """The plan in a .json or (any other ending) msgpack file; BadPlan when it is not one."""
    raw = path.read_bytes()
    try:
        if path.suffix == ".json":
            return msgspec.json.decode(raw, type=Plan)
        return msgspec.msgpack.decode(raw, type=Plan)
    except msgspec.MsgspecError as error:
        raise BadPlan(f"{path.name}: {error}") from error


def write_plan(plan: Plan, path: Path) -> None:
    """Write the plan as JSON when the name ends in .json, else as msgpack."""
    path.write_bytes((msgspec.json if path.suffix == ".json" else msgspec.msgpack).encode(plan))


def _by_rate(plan: Plan) -> int:
    if plan.mode != "open" or plan.duration_s is None or plan.rate_per_s is None:
        return 0
    return math.ceil(plan.duration_s * plan.rate_per_s - 1e-9)
