"""The currencies Stripe takes money in, and how little and how much of each.

Source: docs.stripe.com/currencies (presentment currencies, zero-decimal, three-decimal, minimum and maximum amounts).
"""

from doorbuster.simulators.stripe.errors import Invalid

SUPPORTED = frozenset(
    (
        "usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf "
        "chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf "
        "idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop "
        "mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd "
        "scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof "
        "xpf yer zar zmw"
    ).split()
)
ZERO_DECIMAL = frozenset("bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf".split())
THREE_DECIMAL = frozenset("bhd jod kwd omr tnd".split())
# In the currency's minor unit. A currency without a row has the equivalent of 50 US cents, whose rate is not known
# here: only 1 is demanded of it.
MINIMUM: dict[str, int] = {
    "usd": 50,
    "aed": 200,
    "aud": 50,
    "bgn": 100,
    "brl": 50,
    "cad": 50,
    "chf": 50,
    "czk": 1500,
    "dkk": 250,
    "eur": 50,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "inr": 50,
    "jpy": 50,
    "mxn": 1000,
    "myr": 200,
    "nok": 300,
    "nzd": 50,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "sgd": 50,
    "thb": 1000,
}
MAXIMUM = 99_999_999


def refuse_amount(amount: int, currency: str) -> None:
    """Raises Invalid for a currency Stripe does not take, and an amount below its minimum or of nine digits."""
    if currency not in SUPPORTED:
        raise Invalid(f"The currency {currency!r} is not supported.", param="currency")
    if amount < MINIMUM.get(currency, 1):
        raise Invalid(f"Less than the minimum of {currency}.", "amount_too_small", "amount")
    if amount > MAXIMUM:
        raise Invalid("More than can be charged at once.", "amount_too_large", "amount")
    if currency in THREE_DECIMAL and amount % 10:
        raise Invalid("The last digit of a three-decimal amount is 0.", param="amount")
