"""Kafka and Connect by themselves, for development: `make kafka-up` and `make kafka-down`.

python -m doorbuster.engines.embedded.kafka_alone up|run|down [--data DIR] [--port N --connect-port N]
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from doorbuster.engines.embedded.detach import start_detached
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.kafka import Ports, connect_child, kafka_child, prepare_kafka
from doorbuster.engines.embedded.kafka_jars import REPOSITORY, ensure_jars
from doorbuster.engines.embedded.paths import prepare
from doorbuster.engines.embedded.running import run, stop_running
from doorbuster.engines.embedded.supervisor import Supervisor

_MODULE = "doorbuster.engines.embedded.kafka_alone"


def main() -> int:
    """Start in the background and wait until ready (`up`), stay in the foreground (`run`), or stop (`down`)."""
    parser = argparse.ArgumentParser(description="One Kafka broker and one Connect worker, on the loopback.")
    parser.add_argument("verb", choices=["up", "run", "down"])
    parser.add_argument("--data", type=Path, help="default: .doorbuster/kafka of this checkout")
    parser.add_argument("--port", type=int, default=9092, help="the broker; its controller takes the next one")
    parser.add_argument("--connect-port", type=int, default=8083)
    told = parser.parse_args()
    ports = Ports(told.port, told.port + 1, told.connect_port)
    try:
        place = told.data or prepare(REPOSITORY / ".doorbuster").root / "kafka"
        if told.verb == "down":
            print("Kafka stopped; its data stays." if stop_running(place) else "Kafka was not running.")
        elif told.verb == "run":
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
            run(place, lambda supervisor: _compose(supervisor, ports), print)
        else:
            ensure_jars()
            paths = prepare(place)
            argv = [sys.executable, "-m", _MODULE, "run", "--data", str(paths.root), "--port", str(told.port)]
            url = start_detached([*argv, "--connect-port", str(told.connect_port)], paths)
            print(f"Kafka answers at 127.0.0.1:{told.port}, Connect at {url}; logs are in {paths.logs}.")
    except StartError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    return 0


async def _compose(supervisor: Supervisor, ports: Ports) -> str:
    place = prepare_kafka(supervisor.paths.root / "kafka", ports=ports)
    await supervisor.start(kafka_child(place))
    await supervisor.start(connect_child(place))
    return place.connect_url


if __name__ == "__main__":
    raise SystemExit(main())
