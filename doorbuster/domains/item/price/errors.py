"""What price refuses. The first four are shared with `item.stock`, which refuses orders for the same reasons."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class UnknownOption(Refusal):
    code, status, title = "unknown_option", 404, "There is no such option for sale"


class DealNotOpen(Refusal):
    code, status, title = "deal_not_open", 409, "The deal has not begun"


class DealClosed(Refusal):
    code, status, title = "deal_closed", 409, "The deal is over"


class NotInDeal(Refusal):
    code, status, title = "not_in_deal", 409, "This option is not part of the deal"


class CurrencyMismatch(Refusal):
    code, status, title = "currency_mismatch", 409, "These options are not sold in that currency"


class UnknownPrice(Refusal):
    code, status, title = "unknown_price", 404, "This item has no price"


class PriceInUse(Refusal):
    code, status, title = "price_in_use", 409, "A scheduled sale depends on this list price"


class SaleAboveList(Refusal):
    code, status, title = "sale_above_list", 409, "A sale price may not be higher than the list price"


class TooManySales(Refusal):
    code, status, title = "too_many_sales", 409, "This option has as many scheduled sales as it may have"


class DealPricedOtherwise(Refusal):
    code, status, title = "deal_priced_otherwise", 409, "This deal has other prices or another window already"


class InvalidPrice(Refusal):
    code, status, title = "invalid_price", 400, "The prices contradict themselves"
