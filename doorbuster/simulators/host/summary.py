"""What a simulated PSP's books add up to: captures, refunds, and which orders were captured more than once."""

from collections.abc import Iterable

from msgspec import Struct

MAX_LISTED = 100


class Capture(Struct, frozen=True):
    """One payment money was taken for. `reference` is the shop's own; amounts are minor units of `currency`."""

    psp_key: str
    reference: str
    amount_minor: int
    refunded_minor: int
    at_ms: int
    status: str
    currency: str = "KRW"
    seq: int = 0


class Decline(Struct, frozen=True):
    """One time an issuer was asked and said no, or the PSP said it for the issuer."""

    psp_key: str
    reference: str
    amount_minor: int
    at_ms: int
    code: str
    currency: str = "KRW"
    seq: int = 0


class Summary(Struct, frozen=True):
    """Counts of records; `*_minor` are sums over all currencies; `*_net` leaves fully refunded captures out."""

    charges: int
    captured: int
    captured_minor: int
    declined: int
    refunds: int
    refunded_minor: int
    references_captured_twice: list[str]
    references_captured_twice_count: int
    payments_captured_twice: list[str]
    payments_captured_twice_count: int
    payments_captured_twice_count_net: int


def payment_of(reference: str) -> str:
    """`<payment_id>.<attempt_no>` → payment_id; a reference without a dot is its own payment."""
    return reference.rpartition(".")[0] or reference


def summarise(captures: Iterable[Capture], declined: int, refunds: int) -> Summary:
    """`declined` and `refunds` are counts the PSP knows itself."""
    listed = list(captures)
    by_reference = _count(capture.reference for capture in listed)
    by_payment = _count(payment_of(capture.reference) for capture in listed)
    net = _count(payment_of(c.reference) for c in listed if c.refunded_minor < c.amount_minor)
    references = [name for name, count in by_reference.items() if count > 1]
    payments = [name for name, count in by_payment.items() if count > 1]
    return Summary(
        charges=len(listed) + declined,
        captured=len(listed),
        captured_minor=sum(capture.amount_minor for capture in listed),
        declined=declined,
        refunds=refunds,
        refunded_minor=sum(capture.refunded_minor for capture in listed),
        references_captured_twice=references[:MAX_LISTED],
        references_captured_twice_count=len(references),
        payments_captured_twice=payments[:MAX_LISTED],
        payments_captured_twice_count=len(payments),
        payments_captured_twice_count_net=sum(count > 1 for count in net.values()),
    )


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
