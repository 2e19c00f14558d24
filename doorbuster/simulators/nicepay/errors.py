"""The result codes of NICEPAY the simulator answers with, each with its HTTP status and the vendor's message.

Codes and messages: common/code.md of github.com/nicepayments/nicepay-manual. Statuses: code/nicepay-code.md of
github.com/SeokRae/nicepay-manual-eng, which says that 400 is never answered and most refusals come with 200.
"""

import msgspec
from msgspec import Struct

SUCCESS = "0000"
SUCCESS_MESSAGE = "정상 처리되었습니다."

ERRORS: dict[str, tuple[int, str]] = {
    "1534": (200, "부분취소 불가능 거래"),
    "2014": (200, "취소 불가능 거래"),
    "2015": (200, "기 취소 요청"),
    "2016": (200, "취소 기한 초과"),
    "2020": (200, "망상 취소 허용시간 초과"),
    "2031": (200, "전체금액취소 불가"),
    "9999": (500, "일시적인 오류가 발생하였습니다."),
    "A123": (200, "거래금액 불일치(인증된 금액과 승인요청 금액 불일치)"),
    "A245": (200, "인증 시간이 초과 되었습니다"),
    "A246": (429, "비정상 과다접속으로 인한 오류입니다"),
    "F101": (200, "전자서명 및 암호화메시지 검증 실패"),
    "I002": (200, "사용자가 결제를 취소하였습니다"),
    "P035": (200, "망취소 요청 오류 입니다."),
    "P049": (200, "결제 승인 처리 중입니다. 완료 후 결과를 확인해주세요."),
    "U100": (200, "필수입력항목이 누락되었습니다."),
    "U101": (401, "BASE64 DECODE 실패"),
    "U103": (403, "사용자 인증타입이 맞지 않습니다."),
    "U104": (401, "사용자 인증에 실패하였습니다."),
    "U105": (200, "필드 최대길이 초과"),
    "U107": (404, "거래내역이 존재 하지 않습니다."),
    "U112": (200, "이미 사용된 OrderId 입니다."),
    "U114": (200, "이미 사용된 TID 입니다."),
    "U115": (200, "삭제 처리된 BID 입니다."),
    "U116": (401, "사용자 정보가 존재하지 않습니다."),
    "U117": (401, "사용자 비밀번호가 일치하지 않습니다."),
    "U121": (404, "인증 요청내역이 존재하지 않습니다."),
    "U123": (200, "취소금액이 취소가능금액보다 큼."),
    "U125": (200, "잘못된 요청 입니다."),
    "U127": (200, "요청 금액이 올바르지 않습니다."),
    "U130": (200, "허용된 Date형식이 아닙니다."),
    "U132": (200, "허용된 옵션 내용이 아닙니다."),
    "U133": (200, "요청 파라미터의 형식이 잘못되었습니다."),
    "U142": (200, "필드는 0이하의 값은 허용하지 않습니다."),
    "U154": (200, "공백 문자가 포함되어 있습니다. 공백 없이 입력해주세요."),
    "U303": (503, "API 지연처리 발생."),
    "U304": (401, "BASIC AUTHENTICATION 실패"),
    "U308": (405, "Method Not Allowed."),
    "U309": (200, "발급되지 않은 BID 입니다."),
    "U312": (200, "SIGN DATA 검증에 실패하였습니다."),
    "U317": (200, "인증정보 확인중 오류가 발생하였습니다."),
    "U318": (200, "취소 금액 불일치"),
    "U319": (200, "요청하신 면세금액이 취소가능한 면세금액을 초과 오류"),
    "U320": (404, "페이지를 찾을 수 없습니다."),
    "U321": (200, "면세금액이 결제금액 보다 큼."),
    "U345": (200, "BID가 유효하지 않습니다."),
    "U503": (200, "망취소 요청"),
    "U504": (200, "결제에 실패하였습니다.(망취소 처리)"),
}

# What the payment network may say to an approval or a charge: the payment is `failed` and `resultCode` says why.
DECLINES: dict[str, str] = {
    "3011": "카드번호 오류",
    "3012": "카드가맹점 정보 미확인",
    "3013": "카드 가맹점 개시 안됨",
    "3014": "카드가맹점 정보 오류",
    "3021": "유효기간 오류",
    "3022": "할부개월오류",
    "3023": "할부개월 한도 초과",
    "3024": "할부 최소금액 오류(50000미만)",
    "3031": "무이자할부 카드 아님",
    "3041": "금액 오류(1000원 미만 신용카드 승인 불가)",
    "3051": "해외카드 미등록 가맹점",
    "3053": "확인 불가 해외카드",
    "3057": "인증 불가카드",
    "3081": "카드 잔액 값 오류",
    "3091": "제휴카드 사용불가 가맹점",
    "3095": "카드사 실패 응답",
    "4101": "가상계좌 최대거래금액 초과",
    "4117": "가상계좌 발급 실패",
    "A110": "외부 연동결과 실패에 대한 코드",
    "F118": "해당카드는 사용이 불가능 합니다 타사카드를 이용해주세요",
}

# NICEPAY's own failure after the network approved: it takes the payment back itself and says only this.
NET_CANCELLED = frozenset({"U503", "U504"})


class ErrorBody(Struct, frozen=True, rename="camel"):
    result_code: str
    result_msg: str


class Refused(Exception):
    """Expected: the request is answered with this code. What it changed, if anything, is on record before."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        status, message = ERRORS[code]
        self.code = code
        self.status = status
        self.body = msgspec.json.encode(ErrorBody(code, f"{detail} {message}".strip()))
