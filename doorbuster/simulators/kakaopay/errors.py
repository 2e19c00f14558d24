"""The error codes of KakaoPay the simulator answers with, each with its HTTP status.

Common codes: developers.kakaopay.com/docs/getting-started/api-common-guide/error-code. Payment codes: the table of
developers.kakao.com/docs/latest/ko/rest-api/error-code (KakaoPay), which the vendor's error code sheet continues. The
sentences are our own: nothing may read them.
"""

import msgspec
from msgspec import Struct

ERRORS: dict[int, tuple[int, str]] = {
    -2: (400, "invalid parameter"),
    -400: (400, "authorization is missing"),
    -401: (401, "the secret key is not valid"),
    -403: (403, "the application may not use this API"),
    -404: (404, "there is nothing at this URL"),
    -429: (429, "the quota is used up"),
    -500: (500, "internal error"),
    -503: (503, "under maintenance"),
    -701: (400, "the payment is not authenticated yet"),
    -702: (400, "the tid was paid before"),
    -704: (400, "the amount is not that of ready"),
    -706: (400, "partner_order_id is not that of ready"),
    -707: (400, "partner_user_id is not that of ready"),
    -708: (400, "wrong pg_token"),
    -710: (400, "more than can be cancelled"),
    -721: (400, "no such tid"),
    -722: (400, "wrong amounts"),
    -723: (400, "the time to pay is over"),
    -724: (400, "wrong amount"),
    -731: (400, "wrong cid"),
    -750: (400, "no such sid"),
    -751: (400, "the sid is inactive"),
    -753: (400, "partner_user_id is not that of the sid"),
    -780: (400, "approval failure!"),
    -781: (400, "cancel failure!"),
    -782: (400, "subscription failure!"),
    -783: (400, "the payment cannot be approved in this state"),
    -784: (400, "the payment cannot be cancelled in this state"),
    -785: (400, "the same request is in progress"),
    -797: (400, "over the limit of one payment"),
}


class Extras(Struct, frozen=True):
    """What the card or the bank said, where one of them was asked."""

    method_result_code: str
    method_result_message: str


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """developers.kakaopay.com/docs/payment/online/reference: `{error_code, error_message, extras}`."""

    error_code: int
    error_message: str
    extras: Extras | None = None


class Refused(Exception):
    """Expected: the request is answered with the error of this code and changed nothing, unless its sender says so."""

    def __init__(self, code: int, detail: str = "", result_code: str | None = None) -> None:
        super().__init__(code, detail)
        status, message = ERRORS[code]
        extras = None if result_code is None else Extras(result_code, "as the method said")
        self.code = code
        self.status = status
        self.body = msgspec.json.encode(ErrorBody(code, f"{message} {detail}".strip(), extras))
