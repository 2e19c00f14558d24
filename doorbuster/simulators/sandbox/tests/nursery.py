"""Forks sandboxes whose imports are done, for the tests: real processes that start in 15 ms instead of 300.

Reads one JSON object per line: {"argv", "stderr"} starts one and answers {"pid"}; {"wait", "timeout_s"} answers
{"code"}, null while it still runs. Ends, with everything it started, when its stdin ends.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence

from doorbuster.simulators.sandbox.__main__ import main


def start(argv: Sequence[str], stderr: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        code = main(argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, timeout_s: float) -> int | None:
    give_up_at = time.monotonic() + timeout_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= give_up_at:
            return None
        time.sleep(0.002)


def serve() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "argv" in asked:
            pid = start(asked["argv"], asked["stderr"])
            alive.add(pid)
            answer: dict[str, int | None] = {"pid": pid}
        else:
            answer = {"code": wait(asked["wait"], asked["timeout_s"])}
            if answer["code"] is not None:
                alive.discard(asked["wait"])
        print(json.dumps(answer), flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
