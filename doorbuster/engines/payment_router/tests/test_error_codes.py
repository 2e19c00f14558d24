"""Every error code that the providers document, and what it is evidence of."""

from __future__ import annotations

import pytest

from doorbuster.engines.payment_router.outcome import HttpAnswer, Outcome
from doorbuster.engines.payment_router.providers import kakaopay, nicepay, sandbox, stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc

D, N, U = Outcome.DECLINED, Outcome.NOT_EXECUTED, Outcome.UNKNOWN

# docs.tosspayments.com/reference/error-codes: approval of a window and of a billing key.
TOSS_CHARGE = {
    D: {
        400: "INVALID_REJECT_CARD INVALID_CARD_EXPIRATION INVALID_STOPPED_CARD EXCEED_MAX_DAILY_PAYMENT_COUNT "
             "EXCEED_MAX_CARD_INSTALLMENT_PLAN NOT_ALLOWED_POINT_USE NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT "
             "INVALID_CARD_INSTALLMENT_PLAN NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN EXCEED_MAX_PAYMENT_AMOUNT "
             "INVALID_CARD_LOST_OR_STOLEN RESTRICTED_TRANSFER_ACCOUNT INVALID_CARD_NUMBER NOT_SUPPORTED_CARD_TYPE "
             "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT EXCEED_MAX_AMOUNT "
             "INVALID_ACCOUNT_INFO_RE_REGISTER EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT REJECT_CARD_PAYMENT",
        403: "REJECT_ACCOUNT_PAYMENT REJECT_CARD_PAYMENT REJECT_CARD_COMPANY REJECT_TOSSPAY_INVALID_ACCOUNT "
             "EXCEED_MAX_AUTH_COUNT EXCEED_MAX_ONE_DAY_AMOUNT INVALID_PASSWORD FDS_ERROR",
    },
    N: {
        400: "INVALID_REQUEST INVALID_API_KEY BELOW_MINIMUM_AMOUNT NOT_FOUND_TERMINAL_ID INVALID_AUTHORIZE_AUTH "
             "INVALID_UNREGISTERED_SUBMALL NOT_REGISTERED_BUSINESS NOT_AVAILABLE_PAYMENT NOT_MATCHES_CUSTOMER_KEY "
             "INVALID_BILL_KEY_REQUEST NOT_SUPPORTED_METHOD INVALID_IDEMPOTENCY_KEY",
        401: "UNAUTHORIZED_KEY",
        403: "FORBIDDEN_REQUEST NOT_AVAILABLE_BANK INCORRECT_BASIC_AUTH_FORMAT",
    },
    U: {
        400: "ALREADY_PROCESSED_PAYMENT PROVIDER_ERROR CARD_PROCESSING_ERROR UNAPPROVED_ORDER_ID DUPLICATED_ORDER_ID "
             "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING FAILED_INTERNAL_SYSTEM_PROCESSING UNKNOWN_PAYMENT_ERROR "
             "FAILED_CARD_COMPANY_RESPONSE FAILED_DB_PROCESSING",
        404: "NOT_FOUND NOT_FOUND_PAYMENT NOT_FOUND_PAYMENT_SESSION NOT_FOUND_BILLING",
        409: "IDEMPOTENT_REQUEST_PROCESSING",
        500: "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING FAILED_INTERNAL_SYSTEM_PROCESSING UNKNOWN_PAYMENT_ERROR "
             "COMMON_ERROR REJECT_CARD_PAYMENT INVALID_REQUEST UNAUTHORIZED_KEY",
        429: "REJECT_CARD_PAYMENT INVALID_REQUEST",
    },
}  # fmt: skip
# The 30 codes of its table for a cancel.
TOSS_CANCEL = {
    N: {
        400: "INVALID_REFUND_ACCOUNT_INFO EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT INVALID_REQUEST REFUND_REJECTED "
             "INVALID_REFUND_ACCOUNT_NUMBER INVALID_BANK NOT_MATCHES_REFUNDABLE_AMOUNT FORBIDDEN_BANK_REFUND_REQUEST",
        401: "UNAUTHORIZED_KEY",
        403: "NOT_CANCELABLE_AMOUNT FORBIDDEN_REQUEST NOT_CANCELABLE_PAYMENT EXCEED_MAX_REFUND_DUE "
             "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT NOT_ALLOWED_PARTIAL_REFUND NOT_AVAILABLE_BANK "
             "INCORRECT_BASIC_AUTH_FORMAT NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER EXCEED_CANCEL_LIMIT",
    },
    U: {
        400: "ALREADY_CANCELED_PAYMENT PROVIDER_ERROR ALREADY_REFUND_PAYMENT",
        403: "FORBIDDEN_CONSECUTIVE_REQUEST",
        404: "NOT_FOUND_PAYMENT",
        500: "FAILED_INTERNAL_SYSTEM_PROCESSING FAILED_REFUND_PROCESS FAILED_METHOD_HANDLING_CANCEL "
             "FAILED_PARTIAL_REFUND COMMON_ERROR FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING NOT_CANCELABLE_AMOUNT",
    },
}  # fmt: skip

# nicepay-manual common/code.md. What it lists and is in neither of these is UNKNOWN.
NICE_CHARGE = {
    D: "3011 3021 3022 3023 3024 3031 3032 3033 3051 3053 3055 3056 3057 3061 3091 3095 A128 A241 F112 F118 N001 P021",
    N: "3012 3013 3014 3034 3041 3052 2151 2152 2157 9000 9001 A101 A102 A106 A109 A112 A113 A114 A116 A117 A121 A122 "
       "A123 A124 A125 A126 A147 A148 A149 A211 A212 A223 A224 A247 A248 A255 P001 P005 P007 P008 P009 P010 P011 P012 "
       "P013 P014 P016 P017 P024 P034 P036 P037 U100 U101 U102 U103 U104 U105 U108 U109 U110 U113 U115 U116 U117 U118 "
       "U119 U124 U125 U127 U130 U131 U132 U304 U305 U306 U308 U309 U312 U313 U315 U316 U321",
}  # fmt: skip
NICE_LISTED = (
    "3001 3054 3062 3071 3072 3073 3081 4000 4001 4002 4003 4004 4005 4006 4007 4008 4100 4110 4120 4101 4102 4103 "
    "4104 4105 4106 4107 4108 4109 4111 4112 4113 4114 4115 4116 4117 4118 4119 4121 4122 4123 4124 4125 4126 4127 "
    "4141 4142 4143 4145 7001 7002 7003 7010 A000 A001 A002 A041 A564 1534 1615 2000 2011 2012 2032 2154 2156 2158 "
    "2159 2201 F100 F101 F102 F103 F106 F107 F108 F109 F110 F113 F117 F200 F201 C000 C001 C002 D000 E000 2001 2211 "
    "2003 2010 2013 2014 2015 2016 2017 2018 2019 2020 2021 2022 2023 2024 2025 2026 2027 2028 2029 2030 2031 2033 "
    "2052 A107 A108 A110 A111 A115 A118 A119 A120 A127 A144 A145 A146 A150 A201 A202 A203 A204 A205 A210 A213 A214 "
    "A215 A216 A217 A218 A219 A220 A221 A222 A225 A226 A227 A242 A243 A244 A245 A246 A249 A250 A251 A252 A253 A254 "
    "A256 A257 A258 A299 A300 A301 A302 A303 A304 A305 A306 A307 A400 A401 A402 A403 9002 S999 S001 S002 T001 T002 "
    "T003 T004 T005 X001 X002 X003 X004 V005 V101 V201 V801 P002 P003 P004 P006 P015 P018 P019 P020 P022 P023 P025 "
    "P026 P027 P028 P029 P030 P031 P032 P033 P035 P038 P039 P040 P041 P042 P043 P044 P101 P102 P103 P091 U106 U107 "
    "U111 U112 U114 U120 U121 U122 U123 U126 U128 U129 U301 U302 U303 U307 U310 U311 U314 U317 U318 U319 U320 U322 "
    "U323 U324 U325 U501 U502 U503 U504 U506 U507 U508 U509 U700 I001 I002 I003 I004 I006 I007 M001 M002 N002 N003 "
    "S004 S005 V001 V003 V004 W000 W001 W002 U332 U333"
)
NICE_CANCEL = {
    N: "1534 2010 2011 2014 2016 2017 2018 2019 2023 2026 2027 2028 2029 2030 2031 2032 2033 2052 U123 U128 U318 U319 "
       "U104 U312 9000",
    U: "2003 2012 2013 2015 2020 2159 A299 U122 U303 U501 S999 X003 3095",
}  # fmt: skip

KAKAO_APPROVE = {
    D: "-797",
    N: "-701 -703 -704 -705 -706 -707 -708 -722 -724 -725 -726 -730 -731 -732 -733 -798 -799",
    U: "-702 -710 -711 -721 -723 -750 -751 -752 -753 -761 -780 -781 -782 -783 -784 -785 -500 -503 -429",
}
KAKAO_CANCEL = {N: "-710 -711 -722 -730 -731 -732 -733 -798", U: "-702 -721 -780 -781 -784 -785 -500 -797"}

# docs.stripe.com/declines/codes: decline_code beside card_declined.
STRIPE_DECLINES = (
    "approve_with_id authentication_not_handled authentication_required call_issuer card_not_supported "
    "card_velocity_exceeded currency_not_supported do_not_honor do_not_try_again expired_card fraudulent "
    "generic_decline incorrect_address incorrect_cvc incorrect_number incorrect_pin incorrect_zip insufficient_funds "
    "invalid_account invalid_amount invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number invalid_pin "
    "issuer_not_available lost_card merchant_blacklist mobile_device_authentication_required "
    "new_account_information_available no_action_taken not_permitted offline_pin_required "
    "online_or_offline_pin_required pickup_card pin_try_exceeded processing_error reenter_transaction restricted_card "
    "revocation_of_all_authorizations revocation_of_authorization security_violation service_not_allowed stolen_card "
    "stop_payment_order testmode_decline transaction_not_allowed try_again_later withdrawal_count_limit_exceeded"
)
# docs.stripe.com/error-codes and /api/errors: (status, type, code) -> outcome.
STRIPE_ERRORS = [
    *[(402, "card_error", code, D) for code in (
        "authentication_required card_decline_rate_limit_exceeded expired_card incorrect_cvc incorrect_number "
        "incorrect_zip invalid_cvc invalid_expiry_month invalid_expiry_year invalid_number processing_error").split()],
    *[(400, "invalid_request_error", code, N) for code in (
        "amount_too_large amount_too_small parameter_missing parameter_unknown parameter_invalid_empty "
        "resource_missing parameter_invalid_integer payment_method_unactivated payment_intent_invalid_parameter "
        "url_invalid livemode_mismatch testmode_charges_only secret_key_required").split()],
    *[(400, "invalid_request_error", code, U) for code in (
        "payment_intent_unexpected_state intent_invalid_state charge_already_captured charge_already_refunded "
        "charge_expired_for_capture a_code_of_tomorrow").split()],
    (404, "invalid_request_error", "resource_missing", N),
    (401, "invalid_request_error", None, N), (401, "authentication_error", "api_key_expired", N),
    (403, "invalid_request_error", "secret_key_required", N), (403, "api_error", None, U),
    (429, "invalid_request_error", "rate_limit", N), (429, "rate_limit_error", None, N),
    (429, "invalid_request_error", "lock_timeout", U), (429, "api_error", None, U),
    (409, "idempotency_error", "idempotency_key_in_use", U), (400, "idempotency_error", None, U),
    (400, "invalid_request_error", None, U), (424, "api_error", None, U), (500, "api_error", None, U),
    (402, "invalid_request_error", "expired_card", U), (400, "card_error", "expired_card", U),
    (402, "card_error", "duplicate_transaction", U), (500, "card_error", "expired_card", U),
    (503, "invalid_request_error", "parameter_missing", U),
]  # fmt: skip


def test_toss_codes() -> None:
    for outcome, by_status in TOSS_CHARGE.items():
        for status, codes in by_status.items():
            for code in codes.split():
                answer = doc.answer({"code": code, "message": "…"}, status)
                assert toss.read_confirm(doc.TOSS_ORDER, answer).outcome is outcome, (status, code)
                assert toss.read_charge(doc.TOSS_ORDER, answer).outcome is outcome, (status, code)
    for outcome, by_status in TOSS_CANCEL.items():
        for status, codes in by_status.items():
            for code in codes.split():
                answer = doc.answer({"code": code, "message": "…"}, status)
                assert toss.read_refund(doc.TOSS_REFUND, answer).outcome is outcome, (status, code)


def test_nicepay_codes() -> None:
    table = {code: outcome for outcome, codes in NICE_CHARGE.items() for code in codes.split()}
    listed = dict.fromkeys(NICE_LISTED.split(), U) | table
    assert len(listed) > 300
    for code, outcome in listed.items():
        answer = doc.answer({"resultCode": code, "resultMsg": "…"})
        assert nicepay.read_confirm(doc.NICE_ORDER, answer).outcome is outcome, code
        assert nicepay.read_charge(doc.NICE_ORDER, answer).outcome is outcome, code
        assert nicepay.read_confirm(doc.NICE_ORDER, HttpAnswer(500, answer.body)).outcome is U, code
    for outcome, codes in NICE_CANCEL.items():
        for code in codes.split():
            answer = doc.answer({"resultCode": code, "resultMsg": "…"})
            assert nicepay.read_refund(doc.NICE_REFUND, answer).outcome is outcome, code
    for status in (401, 403):
        answer = doc.answer({"resultCode": "U104", "resultMsg": "사용자 인증에 실패하였습니다."}, status)
        assert nicepay.read_confirm(doc.NICE_ORDER, answer).outcome is N
        assert nicepay.read_confirm(doc.NICE_ORDER, doc.answer(b"<html>", status)).outcome is U


def test_kakaopay_codes() -> None:
    for outcome, codes in KAKAO_APPROVE.items():
        for code in codes.split():
            status = {"-500": 500, "-503": 503, "-429": 429}.get(code, 400)
            answer = doc.answer({"error_code": int(code), "error_message": "…", "extras": {}}, status)
            assert kakaopay.read_confirm(doc.KAKAO_ORDER, answer).outcome is outcome, code
            assert kakaopay.read_confirm(doc.KAKAO_ORDER, HttpAnswer(500, answer.body)).outcome is U, code
    for outcome, codes in KAKAO_CANCEL.items():
        for code in codes.split():
            answer = doc.answer({"error_code": int(code), "error_message": "…"}, 500 if code == "-500" else 400)
            assert kakaopay.read_refund(doc.KAKAO_REFUND, answer).outcome is outcome, code
    for status in (400, 401, 403):
        refused = kakaopay.read_confirm(doc.KAKAO_ORDER, doc.answer({"error_code": -status}, status))
        assert (refused.outcome, refused.code) == (N, f"-{status}")


def test_stripe_decline_codes() -> None:
    for code in STRIPE_DECLINES.split():
        body = {"error": {"type": "card_error", "code": "card_declined", "decline_code": code}}
        result = stripe.read_charge(doc.STRIPE_ORDER, doc.answer(body, 402))
        assert (result.outcome, result.code) == (D, code)
    for code in ("duplicate_transaction", "a_code_of_tomorrow", ""):
        body = {"error": {"type": "card_error", "code": "card_declined", "decline_code": code}}
        assert stripe.read_charge(doc.STRIPE_ORDER, doc.answer(body, 402)).outcome is U
    bare = {"error": {"type": "card_error", "code": "card_declined", "decline_code": None}}
    assert stripe.read_charge(doc.STRIPE_ORDER, doc.answer(bare, 402)).outcome is D
    assert set(STRIPE_DECLINES.split()) | {"card_declined"} >= stripe.CAPABILITY.retryable_declines


def test_stripe_names_only_the_parameter_when_a_refund_asks_for_more_than_is_left() -> None:
    error = {"type": "invalid_request_error", "message": "…", "param": "amount"}
    for change, status, outcome in (
        ({}, 400, N), ({"param": "charge"}, 400, U), ({"code": "a_code_of_tomorrow"}, 400, U),
        ({"code": "charge_already_refunded"}, 400, U), ({"type": "api_error"}, 400, U), ({}, 500, U), ({}, 409, U),
    ):  # fmt: skip
        answer = doc.answer({"error": {**error, **change}}, status)
        assert stripe.read_refund(doc.STRIPE_REFUND, answer).outcome is outcome, (change, status)
        assert stripe.read_charge(doc.STRIPE_ORDER, answer).outcome is U


@pytest.mark.parametrize(("status", "kind", "code", "outcome"), STRIPE_ERRORS)
def test_stripe_errors(status: int, kind: str, code: str | None, outcome: Outcome) -> None:
    answer = doc.answer({"error": {"type": kind, "code": code, "message": "…"}}, status)
    result = stripe.read_charge(doc.STRIPE_ORDER, answer)
    assert (result.outcome, result.code) == (outcome, code or kind)
    # A refund is never declined by an error; what is not a refusal leaves it open.
    assert stripe.read_refund(doc.STRIPE_REFUND, answer).outcome is (outcome if outcome is N else U)


def test_a_code_that_permits_another_provider_is_a_decline() -> None:
    assert set(TOSS_CHARGE[D][400].split() + TOSS_CHARGE[D][403].split()) >= toss.CAPABILITY.retryable_declines
    assert set(NICE_CHARGE[D].split()) >= nicepay.CAPABILITY.retryable_declines
    assert sandbox.CAPABILITY.retryable_declines == {"card_declined"}
    assert not kakaopay.CAPABILITY.retryable_declines
    lost = {
        "lost_card",
        "stolen_card",
        "fraudulent",
        "pickup_card",
        "insufficient_funds",
        "INVALID_CARD_LOST_OR_STOLEN",
    }
    assert not lost & (toss.CAPABILITY.retryable_declines | stripe.CAPABILITY.retryable_declines)
