"""Starts the KakaoPay simulator: `python -m doorbuster.simulators.kakaopay --ledger FILE --secret-file FILE`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.process import run
from doorbuster.simulators.host.server import Psp
from doorbuster.simulators.host.webhooks import Outbox
from doorbuster.simulators.kakaopay.books import Books, Entry
from doorbuster.simulators.kakaopay.provider import Provider
from doorbuster.simulators.kakaopay.psp import KakaoPsp


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options.

    `--webhook-url` is taken and never used: KakaoPay sends none.
    """
    return run("kakaopay", Entry, build, argv)


def build(
    append: Callable[[Entry], None], secret: str, clock: Clock, _outbox: Outbox, _options: argparse.Namespace
) -> tuple[Psp, Callable[[Any], None]]:
    provider = Provider(Books(append), secret, clock.now_ms)
    return KakaoPsp(provider), provider.books.apply


if __name__ == "__main__":
    sys.exit(main())
