"""Starts the NICEPAY simulator: `python -m doorbuster.simulators.nicepay --ledger FILE --secret-file FILE`."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.process import run
from doorbuster.simulators.host.server import Psp
from doorbuster.simulators.host.webhooks import Outbox, Receipt, Webhook
from doorbuster.simulators.nicepay.books import Books, Entry
from doorbuster.simulators.nicepay.provider import Keys, Provider
from doorbuster.simulators.nicepay.psp import NicepayPsp
from doorbuster.simulators.nicepay.views import View

# api/nicepay-api-webhook.md of github.com/SeokRae/nicepay-manual-eng: every minute, ten times in all.
SCHEDULE_MS = (60_000,) * 9
CLIENT_KEY = "S2_0123456789abcdef0123456789abcdef"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options."""
    return run("nicepay", Entry, build, argv, SCHEDULE_MS, webhook_headers, add_options, is_taken)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client-key", default=CLIENT_KEY, help="the shop's client key, its clientId in the window")
    parser.add_argument("--bearer", action="store_true", help="the keys are of the kind that buys tokens")


def build(
    append: Callable[[Entry], None], secret: str, clock: Clock, outbox: Outbox, options: argparse.Namespace
) -> tuple[Psp, Callable[[Any], None]]:
    def send(id_: str, view: View, at_ms: int) -> None:
        outbox.add(Webhook(id_, msgspec.json.encode(view), at_ms))

    keys = Keys(options.client_key, secret, options.bearer)
    provider = Provider(Books(append), keys, clock.now_ms, send)
    return NicepayPsp(provider), provider.replay


def webhook_headers(_webhook: Webhook, _attempts: int) -> Mapping[str, str]:
    return {"content-type": "application/json;charset=utf-8"}


def is_taken(receipt: Receipt) -> bool:
    """Only 200, text/html and a body that is OK (U338 of common/code.md), in any case, blanks around it aside."""
    return receipt.status == 200 and receipt.content_type == "text/html" and receipt.body.strip().upper() == b"OK"


if __name__ == "__main__":
    sys.exit(main())
