"""Starts the Stripe simulator: `python -m doorbuster.simulators.stripe --ledger FILE --secret-file FILE`."""

import argparse
import hmac
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.process import CannotStart, run
from doorbuster.simulators.host.server import Psp
from doorbuster.simulators.host.webhooks import Outbox, Receipt, Webhook
from doorbuster.simulators.stripe.books import Books, Entry
from doorbuster.simulators.stripe.events import Happened, event_view
from doorbuster.simulators.stripe.provider import Provider
from doorbuster.simulators.stripe.psp import StripePsp
from doorbuster.simulators.stripe.routes import ROUTES

# docs.stripe.com/webhooks: for up to three days, with exponential backoff. The single distances are not stated; these
# grow and end three days after the first.
SCHEDULE_MS = tuple(minutes * 60_000 for minutes in (5, 15, 60, 180, 540, 1440, 2080))


class Signer:
    """Guards the endpoint's signing secret, which is read when the process is built and used when a webhook is sent."""

    def __init__(self) -> None:
        self._secret = b""

    def read(self, file: Path | None, url: str | None) -> None:
        """Raises CannotStart: the vendor signs every webhook, so there is none without a secret."""
        if url is None:
            return
        if file is None:
            raise CannotStart("--webhook-url needs --webhook-secret-file")
        try:
            self._secret = file.read_text("ascii").strip().encode()
        except (OSError, UnicodeDecodeError) as error:
            raise CannotStart(f"cannot read the webhook secret: {error}") from error
        if not self._secret:
            raise CannotStart("needs a secret in --webhook-secret-file")

    def headers(self, webhook: Webhook, _attempts: int) -> Mapping[str, str]:
        """`t` is the machine's time, not the moved clock's: the shop that checks its age lives in the former."""
        return {"stripe-signature": signature(self._secret, webhook.body, int(time.time()))}


def signature(secret: bytes, body: bytes, at: int) -> str:
    """docs.stripe.com/webhooks#verify-manually: HMAC-SHA256 over the second, a dot and the body, in hex."""
    mac = hmac.new(secret, f"{at}.".encode() + body, "sha256").hexdigest()
    return f"t={at},v1={mac}"


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options."""
    signer = Signer()

    def build(
        append: Callable[[Entry], None], secret: str, clock: Clock, outbox: Outbox, options: argparse.Namespace
    ) -> tuple[Psp, Callable[[Any], None]]:
        signer.read(options.webhook_secret_file, options.webhook_url)

        def tell(event: Happened) -> None:
            outbox.add(Webhook(event.id, msgspec.json.encode(event_view(event)), event.at_ms))

        provider = Provider(Books(append), secret, clock.now_ms, tell, ROUTES)
        return StripePsp(provider, options.reference_key), provider.replay

    return run("stripe", Entry, build, argv, SCHEDULE_MS, signer.headers, add_options, is_taken)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webhook-secret-file", type=Path, help="the endpoint's signing secret, whsec_…")
    parser.add_argument(
        "--reference-key", default="order_id", help="the metadata key that holds the shop's own reference"
    )


def is_taken(receipt: Receipt) -> bool:
    """docs.stripe.com/webhooks: any 2xx is a success; a redirect is not."""
    return 200 <= receipt.status < 300


if __name__ == "__main__":
    sys.exit(main())
