"""A small program built on `run`, for tests that need a real supervisor process to kill.

Usage: sample_program.py DATA_DIR MODE. MODE: `plain` (two sleepers), `deaf` (a child that ignores its stop signals),
`broken` (a child that can not start), `grandchild` (a child with a child of its own), `stuck` (never gets ready),
`postgres` (the real one).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from doorbuster.engines.embedded import Child, StartError, Supervisor, postgres_child, prepare_cluster, run

_SLEEP = "import time; time.sleep(600)"
_DEAF = (
    "import signal, time\n"
    "for each in (2, 15): signal.signal(each, signal.SIG_IGN)\n"
    "print('on', flush=True); time.sleep(600)"
)
_PARENT = (
    f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {_SLEEP!r}])\n"
    "print('on', flush=True); p.wait()"
)
_BROKEN = "import sys; sys.exit('the flux capacitor is missing')"


async def always() -> bool:
    return True


async def never() -> bool:
    return False


async def compose(supervisor: Supervisor) -> str:
    mode = sys.argv[2]
    (supervisor.socket_dir / "left.lock").touch()
    first = Child("first", [sys.executable, "-c", _SLEEP], always)
    await supervisor.start(first)
    if mode == "broken":
        await supervisor.start(Child("second", [sys.executable, "-c", _BROKEN], never))
    elif mode in ("deaf", "grandchild"):
        log = supervisor.paths.logs / "second.log"

        async def is_on() -> bool:
            return log.exists() and "on" in log.read_text()

        code = _DEAF if mode == "deaf" else _PARENT
        await supervisor.start(Child("second", [sys.executable, "-c", code], is_on, stop_grace_s=0.5))
    elif mode == "postgres":
        await supervisor.start(postgres_child(prepare_cluster(supervisor.paths, supervisor.socket_dir)))
    elif mode == "stuck":
        await supervisor.start(Child("second", [sys.executable, "-c", _SLEEP], never))
    else:
        await supervisor.start(Child("second", [sys.executable, "-c", _SLEEP], always))
    return "https://localhost:1"


def announce(url: str) -> None:
    print(f"ready {url}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        run(Path(sys.argv[1]), compose, announce)
    except StartError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        raise SystemExit(1) from error
