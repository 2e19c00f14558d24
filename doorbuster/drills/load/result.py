"""What a load run found out, as frozen values and as a file; and the questions a drill asks of it."""

from pathlib import Path

import msgspec

CONNECTION_ERROR = 0
TIMEOUT = -1
SHED = -2
NOT_SENT = -1.0

OUTCOME_NAMES = {CONNECTION_ERROR: "connection_error", TIMEOUT: "timeout", SHED: "shed"}


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from when a request was due (open loop) or first sent (closed) to the end of its last try."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Tally(msgspec.Struct, frozen=True):
    """Final outcomes of one kind. `count`: whole run; `in_window`: ended in the window; latency: without warm-up."""

    tag: str
    status: int
    code: str
    count: int
    in_window: int
    rate_per_s: float
    latency_ms: Latency


class Became(msgspec.Struct, frozen=True):
    """Requests that were tried again: how the first try ended, how the last one did."""

    first_status: int
    last_status: int
    requests: int


class Retries(msgspec.Struct, frozen=True):
    """Same-key retries. `tries` counts only the additional ones."""

    requests: int = 0
    tries: int = 0
    became: list[Became] = []


class TryRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One try (record="each"), times in seconds since the start; a shed request was never sent (sent = -1).

    status: HTTP's, or 0 connection error, -1 timeout, -2 shed. bytes: of the answer's body.
    """

    index: int
    tag: str
    try_no: int
    due: float
    sent: float
    done: float
    status: int
    bytes: int
    id: str | None = None
    code: str | None = None
    state: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """A look at a running load: `rate_per_s` over the last interval, `backlog` due but not yet sent."""

    elapsed_s: float
    done: int
    inflight: int
    rate_per_s: float
    backlog: int = 0
    failures: int = 0
    expected: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. Counts are of requests, not tries, warm-up included; rate_per_s: answers in the measured window.

    latency_ms covers answers, timeouts and shed requests (the last two lasted at least so long), not connection errors.
    not_issued: requests the plan still had when the run ended early. ran_out: the plan had too few for its duration.
    `error` says why a run was cut short: every connection lost for good, or limit_s reached.
    """

    started_at: str
    started_unix_s: float
    wall_s: float
    window_s: float
    requests: int
    answered: int
    connection_errors: int
    timeouts: int
    shed: int
    not_issued: int
    by_status: dict[str, int]
    by_code: dict[str, int]
    rate_per_s: float
    latency_ms: Latency
    latency_by_tag_ms: dict[str, Latency]
    tallies: list[Tally]
    retries: Retries
    cpu_s: float
    cpu_setup_s: float
    cpu_share_of_core: float
    cpu_us_per_request: float
    max_in_flight: int
    max_backlog: int
    connects: int
    connect_failures: int
    stopped: bool = False
    ran_out: bool = False
    error: str | None = None
    rows: list[TryRow] = []


def in_flight_at(result: Result, unix_s: float) -> list[TryRow]:
    """The tries that had been sent and not answered at that wall-clock time (time.time()); needs record="each"."""
    moment = unix_s - result.started_unix_s
    return [row for row in result.rows if row.sent != NOT_SENT and row.sent <= moment < row.done]


def read_result(path: Path) -> Result:
    """The result in a .json or msgpack file; msgspec.MsgspecError when it is not one."""
    if path.suffix == ".json":
        return msgspec.json.decode(path.read_bytes(), type=Result)
    return msgspec.msgpack.decode(path.read_bytes(), type=Result)


def write_result(result: Result, path: Path) -> None:
    """Write the result as JSON when the name ends in .json, else as msgpack."""
    path.write_bytes((msgspec.json if path.suffix == ".json" else msgspec.msgpack).encode(result))
