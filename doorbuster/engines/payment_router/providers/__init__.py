"""The payment providers, one module each, by flow: who is not in a flow's table does not have that flow.

The type checker holds each module against the Protocol of every table it stands in.
"""

from __future__ import annotations

from collections.abc import Mapping

from doorbuster.engines.payment_router.provider import (
    Captures,
    Charges,
    Confirms,
    Flow,
    Inquires,
    InquiresRefunds,
    NetCancels,
    Prepares,
    PreparesHere,
    Provider,
    Refunds,
    SettlementFiles,
    Settlements,
    Voids,
    Webhooks,
)
from doorbuster.engines.payment_router.providers import kakaopay, nicepay, sandbox, stripe, toss

PROVIDERS: Mapping[str, Provider] = {
    "sandbox": sandbox, "toss": toss, "stripe": stripe, "nicepay": nicepay, "kakaopay": kakaopay,
}  # fmt: skip
PREPARES: Mapping[str, Prepares] = {"stripe": stripe, "kakaopay": kakaopay}
PREPARES_HERE: Mapping[str, PreparesHere] = {"toss": toss, "nicepay": nicepay}
CONFIRMS: Mapping[str, Confirms] = {"toss": toss, "stripe": stripe, "nicepay": nicepay, "kakaopay": kakaopay}
CHARGES: Mapping[str, Charges] = {"sandbox": sandbox, "toss": toss, "stripe": stripe, "nicepay": nicepay}
CAPTURES: Mapping[str, Captures] = {"stripe": stripe}
VOIDS: Mapping[str, Voids] = {"toss": toss, "stripe": stripe, "nicepay": nicepay}
INQUIRES: Mapping[str, Inquires] = {
    "sandbox": sandbox, "toss": toss, "stripe": stripe, "nicepay": nicepay, "kakaopay": kakaopay,
}  # fmt: skip
REFUNDS: Mapping[str, Refunds] = {
    "sandbox": sandbox, "toss": toss, "stripe": stripe, "nicepay": nicepay, "kakaopay": kakaopay,
}  # fmt: skip
REFUND_INQUIRES: Mapping[str, InquiresRefunds] = {
    "toss": toss, "stripe": stripe, "nicepay": nicepay, "kakaopay": kakaopay,
}  # fmt: skip
NETCANCELS: Mapping[str, NetCancels] = {"nicepay": nicepay}
WEBHOOKS: Mapping[str, Webhooks] = {"toss": toss, "stripe": stripe, "nicepay": nicepay}
SETTLEMENTS: Mapping[str, Settlements] = {"sandbox": sandbox, "toss": toss, "stripe": stripe}
SETTLEMENT_FILES: Mapping[str, SettlementFiles] = {"stripe": stripe}

BY_FLOW: Mapping[Flow, Mapping[str, object]] = {
    Flow.PREPARE: PREPARES, Flow.PREPARE_HERE: PREPARES_HERE, Flow.CONFIRM: CONFIRMS, Flow.CHARGE: CHARGES,
    Flow.CAPTURE: CAPTURES, Flow.VOID: VOIDS, Flow.INQUIRY: INQUIRES, Flow.REFUND: REFUNDS,
    Flow.REFUND_INQUIRY: REFUND_INQUIRES, Flow.NETCANCEL: NETCANCELS, Flow.WEBHOOK: WEBHOOKS,
    Flow.SETTLEMENT: SETTLEMENTS, Flow.SETTLEMENT_CSV: SETTLEMENT_FILES,
}  # fmt: skip
