"""Expansion: an id in an object is replaced by the object it names, as deep as four levels.

Source: docs.stripe.com/api/expanding_objects. What can be expanded here is in EXPANDABLE; anything else is refused,
also where the vendor could expand it, so that nobody takes an id for an object.
"""

from collections.abc import Callable, Sequence
from typing import Any

from doorbuster.simulators.stripe.balance import flat, transaction_view, transactions_of
from doorbuster.simulators.stripe.errors import Invalid
from doorbuster.simulators.stripe.intent import Intent
from doorbuster.simulators.stripe.views import charge_view, intent_view, list_view, method_view, refund_view

MAX_DEPTH = 4
EXPANDABLE: dict[str, frozenset[str]] = {
    "payment_intent": frozenset({"latest_charge", "payment_method"}),
    "charge": frozenset({"balance_transaction", "payment_intent", "refunds"}),
    "refund": frozenset({"balance_transaction", "charge", "failure_balance_transaction", "payment_intent"}),
    "balance_transaction": frozenset({"source"}),
}

View = dict[str, Any]
Find = Callable[[str], View | None]


def finder(intent: Intent, origin: str, now_ms: int) -> Find:
    """From an id to the object of this intent that has it."""

    def find(id_: str) -> View | None:
        if id_ == intent.id:
            return intent_view(intent, origin)
        if id_ == intent.method_id and intent.method is not None:
            return method_view(id_, intent.method, intent)
        for charge in intent.charges:
            if charge.id == id_:
                return charge_view(intent, charge)
            for refund in charge.refunds:
                if refund.id == id_:
                    return refund_view(intent, charge, refund)
        for transaction in transactions_of(intent):
            if transaction.id == id_:
                return transaction_view(flat(transaction), now_ms)
        return None

    return find


def refunds_of(intent: Intent, charge_id: str) -> View:
    rows = [refund_view(intent, c, r) for c in intent.charges if c.id == charge_id for r in reversed(c.refunds)]
    return list_view(f"/v1/charges/{charge_id}/refunds", rows, has_more=False)


def refuse_expand(kind: str, paths: Sequence[str]) -> None:
    """Raises Invalid for a path that cannot be expanded in an object (or `list:` of objects) of this kind."""
    for at, path in enumerate(paths):
        names = path.split(".")
        if kind.startswith("list:") and names[:1] == ["data"]:
            names = names[1:]
        elif kind.startswith("list:"):
            names = [""]
        if not names or len(path.split(".")) > MAX_DEPTH or not _is_expandable(kind.removeprefix("list:"), names):
            raise Invalid(f"{path!r} cannot be expanded.", param=f"expand[{at}]")


NEXT = {
    "latest_charge": ("charge",),
    "charge": ("charge",),
    "payment_intent": ("payment_intent",),
    "balance_transaction": ("balance_transaction",),
    "failure_balance_transaction": ("balance_transaction",),
    "source": ("charge", "refund"),
}


def _is_expandable(kind: str, names: list[str]) -> bool:
    if names[0] not in EXPANDABLE.get(kind, frozenset()):
        return False
    return len(names) == 1 or any(_is_expandable(next_, names[1:]) for next_ in NEXT.get(names[0], ()))


def expanded(view: View, paths: Sequence[str], intent: Intent, origin: str, now_ms: int) -> View:
    """The view with the objects in it; the paths were let in by `refuse_expand`."""
    find = finder(intent, origin, now_ms)
    for path in paths:
        _put(view, path.split("."), find, intent)
    return view


def _put(view: View, names: list[str], find: Find, intent: Intent) -> None:
    name = names[0]
    if name not in EXPANDABLE.get(view["object"], frozenset()):
        return
    if name == "refunds":
        view[name] = refunds_of(intent, view["id"])
        return
    value = view.get(name)
    if isinstance(value, str):
        value = view[name] = find(value) or value
    if len(names) > 1 and isinstance(value, dict):
        _put(value, names[1:], find, intent)
