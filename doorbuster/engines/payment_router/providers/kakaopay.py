"""KakaoPay, online single payment: build requests, read answers. Pure. Sources per field: docs/psp/kakaopay.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import msgspec

from doorbuster.engines.payment_router.outcome import (
    EXPIRED,
    NOT_FOUND_YET,
    VOIDED,
    WAITING_FOR_BUYER,
    ChargeOrder,
    HttpAnswer,
    HttpCall,
    Outcome,
    RefundOrder,
    Result,
)
from doorbuster.engines.payment_router.provider import (
    AmountLimit,
    Capability,
    Flow,
    Forged,
    Login,
    Method,
    Prepared,
    ReturnUrls,
    Timeouts,
    WindowReturn,
)
from doorbuster.engines.payment_router.providers import wire

_CURRENCY = "KRW"
"""KakaoPay's single payment knows no other, and names none."""
_HORIZON_S = 3_600.0
"""A session can be approved for 15 minutes; four times that, and it never will be."""

DECLINES = frozenset({-797})
# Refused before anything was done: our request, our keys, our contract. Not here, because the money may have been
# taken: -702 (approved before), -721, -723, -783 (a state that allows no approval), -785 (twice at once), and -780,
# whose cause may be a bank that did not say.
NOT_EXECUTED = frozenset({
    -400, -401, -403, -701, -703, -704, -705, -706, -707, -708, -722, -724, -725, -726, -730, -731, -732, -733, -798,
    -799,
})  # fmt: skip
REFUND_NOT_EXECUTED = frozenset({-400, -401, -403, -710, -711, -722, -730, -731, -732, -733, -798})
_REFUSAL_STATUSES = frozenset({400, 401, 403})

_OPEN = frozenset({"READY", "SEND_TMS", "OPEN_PAYMENT", "SELECT_METHOD", "ARS_WAITING", "AUTH_PASSWORD"})
_FAILED = frozenset({"FAIL_PAYMENT", "FAIL_AUTH_PASSWORD"})

CAPABILITY = Capability(
    name="kakaopay",
    # Neither a charge by SID (it could not be asked about: an inquiry needs the tid that only its answer brings), nor
    # webhooks, nor settlement rows: docs/psp/kakaopay.md.
    flows=frozenset({Flow.PREPARE, Flow.CONFIRM, Flow.INQUIRY, Flow.REFUND, Flow.REFUND_INQUIRY}),
    methods=frozenset({Method.WINDOW}),
    amounts=(AmountLimit(_CURRENCY, 100, 50_000_000),),
    # The platform itself gives up after 11 s.
    timeouts=Timeouts(connect_s=5, answer_s=15),
    instalment_months=frozenset(range(2, 13)),
    instalment_least_minor=50_000,
    partial_refund=True,
    inquiry_by_reference=False,
    idempotency=None,
    not_found_horizon_s=_HORIZON_S,
)


class _Session(msgspec.Struct):
    tid: str
    next_redirect_pc_url: str
    next_redirect_mobile_url: str
    next_redirect_app_url: str = ""
    android_app_scheme: str = ""
    ios_app_scheme: str = ""


class _Amount(msgspec.Struct):
    total: int


class _Approval(msgspec.Struct):
    aid: str
    tid: str
    partner_order_id: str
    amount: _Amount
    approved_at: str


class _Action(msgspec.Struct):
    aid: str = ""
    payment_action_type: str = ""
    amount: int = 0
    payload: str | None = None


class _Order(msgspec.Struct):
    tid: str
    status: str
    partner_order_id: str
    amount: _Amount
    canceled_amount: _Amount | None = None
    cancel_available_amount: _Amount | None = None
    payment_action_details: list[_Action] | None = None


class _Cancel(msgspec.Struct):
    aid: str
    tid: str
    status: str
    partner_order_id: str
    approved_cancel_amount: _Amount
    canceled_amount: _Amount
    payload: str | None = None


class _Failure(msgspec.Struct):
    error_code: int


def wire_reference(reference: str) -> str:
    """partner_order_id: up to 100 characters; our dots become underscores, as elsewhere."""
    return wire.underscored(reference)


def our_reference(wire_id: str) -> str:
    """The reverse; empty for an order that is none of ours."""
    return wire.dotted(wire_id)


def prepare_call(order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> HttpCall:
    """Open a session; the buyer is then sent to one of its URLs. `login.merchant` is the cid."""
    body: dict[str, str | int] = {
        "cid": login.merchant, "partner_order_id": wire_reference(order.reference), "partner_user_id": _user(order),
        "item_name": wire.shortened(order.title, 100, "order"), "quantity": 1, "total_amount": order.amount_minor,
        "tax_free_amount": order.tax_free_minor, "approval_url": urls.success, "cancel_url": urls.cancel,
        "fail_url": urls.failure,
    }  # fmt: skip
    if order.instalment_months > 1:
        body["install_month"] = order.instalment_months
    return _post("ready", body, login)


def read_prepare(order: ChargeOrder, answer: HttpAnswer) -> Prepared | Result:
    """The session's tid is the only handle on the payment: keep it before the buyer is sent anywhere."""
    if answer.status != 200:
        return _from_error(answer, frozenset(), NOT_EXECUTED)
    session = wire.read_json(answer.body, _Session)
    if session is None or wire.ID.fullmatch(session.tid) is None:
        return wire.unreadable(answer)
    pages = (session.next_redirect_pc_url, session.next_redirect_mobile_url)
    if not all(page.startswith(("https://", "http://")) for page in pages):
        return Result(Outcome.UNKNOWN, code="unusable_url")
    client: dict[str, str | int] = {
        "pc_url": session.next_redirect_pc_url, "mobile_url": session.next_redirect_mobile_url,
        "app_url": session.next_redirect_app_url, "android_scheme": session.android_app_scheme,
        "ios_scheme": session.ios_app_scheme,
    }  # fmt: skip
    return Prepared(client, session.tid)


def read_return(order: ChargeOrder, form: Mapping[str, str], login: Login) -> WindowReturn | Forged:
    """approval_url brings a pg_token and nothing else; KakaoPay itself checks that it fits tid, order and user."""
    token = form.get("pg_token", "")
    if not token:
        return WindowReturn(code="no_token")
    return WindowReturn(token=token) if wire.ID.fullmatch(token) else Forged("unusable pg_token")


def confirm_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take the money. `total_amount` is optional and makes KakaoPay refuse another amount."""
    body = {
        "cid": login.merchant, "tid": _tid(order.provider_id), "partner_order_id": wire_reference(order.reference),
        "partner_user_id": _user(order), "pg_token": order.token, "total_amount": order.amount_minor,
    }  # fmt: skip
    return _post("approve", body, login)


def read_confirm(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """An approval has no status: 200 with our tid, order and amount, and a time of approval, is the evidence."""
    if answer.status != 200:
        return _from_error(answer, DECLINES, NOT_EXECUTED)
    approval = wire.read_json(answer.body, _Approval)
    if approval is None:
        return wire.unreadable(answer)
    if (wrong := _not_ours(order, approval.tid, approval.partner_order_id, approval.amount)) is not None:
        return wrong
    if not approval.approved_at or wire.ID.fullmatch(approval.aid) is None:
        return Result(Outcome.UNKNOWN, approval.tid, "not_approved")
    return Result(Outcome.SUCCEEDED, approval.tid)


def inquiry_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Ask by tid; KakaoPay cannot be asked by our reference."""
    return _post("order", {"cid": login.merchant, "tid": _tid(order.provider_id)}, login)


def read_inquiry(order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """What stands at KakaoPay. An open session is dead past the horizon."""
    found = _read_order(answer)
    if isinstance(found, Result):
        return found
    if (wrong := _not_ours(order, found.tid, found.partner_order_id, found.amount)) is not None:
        return wrong
    gone = found.canceled_amount.total if found.canceled_amount else 0
    if found.status == "SUCCESS_PAYMENT" and gone == 0:
        return Result(Outcome.SUCCEEDED, found.tid)
    if found.status == "PART_CANCEL_PAYMENT" and 0 < gone < order.amount_minor:
        return Result(Outcome.SUCCEEDED, found.tid, refunded_minor=gone)
    if found.status == "CANCEL_PAYMENT" and gone == order.amount_minor:
        return Result(Outcome.NOT_EXECUTED, found.tid, VOIDED)
    if found.status in _FAILED:
        return Result(Outcome.DECLINED, found.tid, found.status)
    if found.status == "QUIT_PAYMENT":
        return Result(Outcome.NOT_EXECUTED, found.tid, found.status)
    if found.status in _OPEN:
        if age_s >= _HORIZON_S:
            return Result(Outcome.NOT_EXECUTED, found.tid, EXPIRED)
        return Result(Outcome.PENDING, found.tid, WAITING_FOR_BUYER)
    return Result(Outcome.UNKNOWN, found.tid, found.status)


def refund_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Give money back. There is no idempotency key; `cancel_available_amount` is what stops a second execution."""
    wire_reference(order.charge_reference)  # Refused here, not when the answer is read and the money is back.
    body: dict[str, str | int] = {
        "cid": login.merchant, "tid": _tid(order.provider_charge_id), "cancel_amount": order.amount_minor,
        "cancel_tax_free_amount": order.tax_free_minor, "payload": wire_reference(order.reference),
    }  # fmt: skip
    if order.charged_minor:
        body["cancel_available_amount"] = order.charged_minor - order.refunded_minor
    return _post("cancel", body, login)


def read_refund(order: RefundOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only with our payload, tid, order and exactly this amount."""
    if answer.status != 200:
        return _from_error(answer, frozenset(), REFUND_NOT_EXECUTED)
    cancel = wire.read_json(answer.body, _Cancel)
    if cancel is None:
        return wire.unreadable(answer)
    ours = cancel.tid == order.provider_charge_id and cancel.payload == wire_reference(order.reference)
    ours = ours and cancel.partner_order_id == wire_reference(order.charge_reference)
    ours = ours and cancel.approved_cancel_amount.total == order.amount_minor and order.currency == _CURRENCY
    if ours and cancel.status in ("CANCEL_PAYMENT", "PART_CANCEL_PAYMENT") and wire.ID.fullmatch(cancel.aid):
        return Result(Outcome.SUCCEEDED, cancel.aid, refunded_minor=cancel.canceled_amount.total)
    return Result(Outcome.UNKNOWN, code="another_refund")


def refund_inquiry_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Read the order again: its actions bear our payloads."""
    return _post("order", {"cid": login.merchant, "tid": _tid(order.provider_charge_id)}, login)


def read_refund_inquiry(order: RefundOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """Found under our payload, or past the horizon not there."""
    found = _read_order(answer)
    if isinstance(found, Result):
        return found
    ours = found.tid == order.provider_charge_id and order.currency == _CURRENCY
    if not ours or found.partner_order_id != wire_reference(order.charge_reference):
        return Result(Outcome.UNKNOWN, code="another_payment")
    mine = [
        action for action in found.payment_action_details or []
        if action.payment_action_type == "CANCEL" and action.payload == wire_reference(order.reference)
    ]  # fmt: skip
    if len(mine) == 1 and mine[0].amount == order.amount_minor and wire.ID.fullmatch(mine[0].aid):
        return Result(Outcome.SUCCEEDED, mine[0].aid)
    if mine:
        return Result(Outcome.UNKNOWN, code="another_refund")
    gone = found.canceled_amount.total if found.canceled_amount else 0
    # Should the order not repeat a payload, the sum still tells that something went back.
    explained = found.status in ("SUCCESS_PAYMENT", "PART_CANCEL_PAYMENT") and gone == order.refunded_minor
    if age_s >= _HORIZON_S and explained:
        return Result(Outcome.NOT_EXECUTED, code="not_found")
    return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)


def _not_ours(order: ChargeOrder, tid: str, partner_order_id: str, amount: _Amount) -> Result | None:
    if wire.ID.fullmatch(tid) is None or tid != order.provider_id:
        return Result(Outcome.UNKNOWN, code="another_payment")
    if partner_order_id != wire_reference(order.reference):
        return Result(Outcome.UNKNOWN, code="another_reference")
    if not wire.is_ours(order, amount.total, _CURRENCY):
        return Result(Outcome.UNKNOWN, code="another_amount")
    return None


def _read_order(answer: HttpAnswer) -> _Order | Result:
    if answer.status != 200:
        failure = wire.read_json(answer.body, _Failure)
        return Result(Outcome.UNKNOWN, code=f"inquiry_{failure.error_code if failure else answer.status}")
    return wire.read_json(answer.body, _Order) or wire.unreadable(answer)


def _from_error(answer: HttpAnswer, declines: frozenset[int], refusals: frozenset[int]) -> Result:
    failure = wire.read_json(answer.body, _Failure)
    if failure is None:
        return wire.unreadable(answer)
    code = str(failure.error_code)[:64]
    if answer.status == 400 and failure.error_code in declines:
        return Result(Outcome.DECLINED, code=code)
    if answer.status in _REFUSAL_STATUSES and failure.error_code in refusals:
        return Result(Outcome.NOT_EXECUTED, code=code)
    return Result(Outcome.UNKNOWN, code=code)


def _tid(text: str) -> str:
    if wire.ID.fullmatch(text) is None:
        raise ValueError("KakaoPay is asked by its tid, and this attempt has none")
    return text


def _user(order: ChargeOrder) -> str:
    return order.customer or "anonymous"


def _post(name: str, body: Mapping[str, object], login: Login) -> HttpCall:
    headers = {"authorization": f"SECRET_KEY {login.secret.reveal()}", "content-type": "application/json"}
    return HttpCall("POST", f"/online/v1/payment/{name}", headers, msgspec.json.encode(body))
