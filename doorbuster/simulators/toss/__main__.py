"""Starts the Toss Payments simulator: `python -m doorbuster.simulators.toss --ledger FILE --secret-file FILE`."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.process import run
from doorbuster.simulators.host.server import Psp
from doorbuster.simulators.host.webhooks import Outbox, Webhook
from doorbuster.simulators.toss.books import Books, Entry
from doorbuster.simulators.toss.provider import Provider
from doorbuster.simulators.toss.psp import TossPsp
from doorbuster.simulators.toss.views import View, kst_micros

# docs.tosspayments.com/guides/webhook: seven times more, 3 days and 19 hours after the first at the latest.
SCHEDULE_MS = tuple(minutes * 60_000 for minutes in (1, 4, 16, 64, 256, 1024, 4096))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options."""
    return run("toss", Entry, build, argv, SCHEDULE_MS, webhook_headers, add_options)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cancel-gap-ms", type=int, default=0, help="refuse a second cancel of a payment within it")


def build(
    append: Callable[[Entry], None], secret: str, clock: Clock, outbox: Outbox, options: argparse.Namespace
) -> tuple[Psp, Callable[[Any], None]]:
    def send(id_: str, view: View, at_ms: int) -> None:
        outbox.add(Webhook(id_, msgspec.json.encode(view), at_ms))

    provider = Provider(Books(append), secret, clock.now_ms, send)
    provider.rules.cancel_gap_ms = options.cancel_gap_ms
    return TossPsp(provider), provider.replay


def webhook_headers(webhook: Webhook, attempts: int) -> Mapping[str, str]:
    return {
        "tosspayments-webhook-transmission-id": webhook.id,
        "tosspayments-webhook-transmission-time": kst_micros(webhook.at_ms),
        "tosspayments-webhook-transmission-retried-count": str(attempts),
    }


if __name__ == "__main__":
    sys.exit(main())
