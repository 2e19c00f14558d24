"""The load process: `python -m doorbuster.drills.load --plan FILE --out FILE [--progress-json]`."""

import argparse
import asyncio
import gc
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from doorbuster.drills.load.dialer import LoadFailed
from doorbuster.drills.load.generator import Generator
from doorbuster.drills.load.plan import BadPlan, Plan, read_plan
from doorbuster.drills.load.result import Progress, Result, write_result

EXIT_BAD_PLAN = 2
EXIT_FAILED = 3
# Each request leaves nothing for the collector to find; the default would walk a large run's rows again and again.
GC_THRESHOLD = 100_000


def main() -> int:
    """Run the plan; 0 with a result file, 2 for a bad plan, 3 when nobody answered."""
    asked = _arguments()
    try:
        plan = read_plan(asked.plan)
    except (BadPlan, OSError) as error:
        print(f"bad plan: {error}", file=sys.stderr)
        return EXIT_BAD_PLAN
    try:
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_run(plan, asked.progress_json))
    except BadPlan as error:
        print(f"bad plan: {error}", file=sys.stderr)
        return EXIT_BAD_PLAN
    except LoadFailed as error:
        print(f"load failed: {error}", file=sys.stderr)
        return EXIT_FAILED
    write_result(result, asked.out)
    return 0


async def _run(plan: Plan, progress_json: bool) -> Result:
    generator: Generator

    def tell(progress: Progress) -> None:
        try:
            sys.stderr.buffer.write(msgspec.json.encode(progress) + b"\n")
            sys.stderr.buffer.flush()
        except BrokenPipeError:
            generator.stop()  # whoever wanted the load is gone

    generator = Generator(plan, tell if progress_json else None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, generator.stop)
    return await generator.run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m doorbuster.drills.load", description="A lean HTTPS load generator."
    )
    parser.add_argument("--plan", type=Path, required=True, metavar="FILE", help="the plan: .json, else msgpack")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the result: .json, else msgpack")
    parser.add_argument("--progress-json", action="store_true", help="one JSON line per interval on stderr")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
