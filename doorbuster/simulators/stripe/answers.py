"""An answer, made of the ledger entry that keeps it: the same entry gives the same bytes, also after a crash."""

from typing import Any

import msgspec

from doorbuster.simulators.host.wire import Answer
from doorbuster.simulators.stripe.books import Entry, Said
from doorbuster.simulators.stripe.errors import error_body
from doorbuster.simulators.stripe.expand import expanded
from doorbuster.simulators.stripe.intent import Intent
from doorbuster.simulators.stripe.views import intent_view, method_view, refund_view

View = dict[str, Any]


def answer_of(entry: Entry, said: Said) -> Answer:
    intent = entry.intent
    if said.error is not None:
        more: View = {}
        if intent is not None:
            more["payment_intent"] = intent_view(intent, said.origin)
            if said.error.type == "card_error" and intent.problem is not None:
                more["payment_method"] = method_view(intent.problem.method_id, intent.problem.method, intent)
        return Answer(said.error.status, error_body(said.error, **more))
    assert intent is not None, "an answer without an error shows an intent or its refund"
    view = intent_view(intent, said.origin) if said.refund is None else _refund(intent, said.refund)
    return Answer(200, msgspec.json.encode(expanded(view, said.expand, intent, said.origin, entry.at_ms)))


def _refund(intent: Intent, refund_id: str) -> View:
    for charge in intent.charges:
        for refund in charge.refunds:
            if refund.id == refund_id:
                return refund_view(intent, charge, refund)
    raise AssertionError(f"the entry has no refund {refund_id}")
