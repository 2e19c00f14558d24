"""Settlement rows as `GET /v1/settlements` lists them: one for each movement of money, with fee and day of payout.

Fields: docs.tosspayments.com/guides/apis/settlements. The rate of 2.31 % is that of the row quoted in
techchat.tosspayments.com/m/1339897603873046580 (amount 64601, fee 1492, supplyAmount 1356, vat 136).
"""

from datetime import date, timedelta

from doorbuster.simulators.toss.payment import Move, Payment
from doorbuster.simulators.toss.views import MERCHANT_ID, View, kst, kst_date, payment_view

FEE_PER_100_000 = 2310
PAY_OUT_WORKDAYS = 2


def fee_of(amount: int) -> int:
    """The fee in won, VAT included, rounded down; a cancellation gives it back, so it has the sign of the amount."""
    fee = abs(amount) * FEE_PER_100_000 // 100_000
    return fee if amount >= 0 else -fee


def pay_out_date(sold: date) -> date:
    """Workdays are Monday to Friday; the holidays of Korea are not known here."""
    day, left = sold, PAY_OUT_WORKDAYS
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < 5
    return day


def settlement_view(payment: Payment, move: Move) -> View:
    """One row; a cancellation has negative amounts and says in `cancel` which one it is."""
    fee = fee_of(move.amount)
    supply = abs(fee) * 10 // 11 * (1 if fee >= 0 else -1)
    sold = kst_date(move.at_ms)
    shown = payment_view(payment)
    cancel = next((c for c in shown["cancels"] or () if c["transactionKey"] == move.transaction_key), None)
    return {
        "mId": MERCHANT_ID,
        "paymentKey": payment.key,
        "transactionKey": move.transaction_key,
        "orderId": payment.order_id,
        "currency": "KRW",
        "method": payment.method,
        "amount": move.amount,
        "interestFee": 0,
        "fee": fee,
        "fees": [{"type": "BASE", "fee": fee}],
        "supplyAmount": supply,
        "vat": fee - supply,
        "payOutAmount": move.amount - fee,
        "approvedAt": kst(move.at_ms),
        "soldDate": sold,
        "paidOutDate": pay_out_date(date.fromisoformat(sold)).isoformat(),
        "card": shown["card"],
        "easyPay": shown["easyPay"],
        "giftCertificate": None,
        "mobilePhone": shown["mobilePhone"],
        "transfer": shown["transfer"],
        "virtualAccount": shown["virtualAccount"],
        "cancel": cancel,
    }
