"""What stock refuses, with stable codes."""

from __future__ import annotations

from doorbuster.domains.item import price
from doorbuster.platform.errors import Refusal

# Price is asked first and judges the same window, so the plain no is the same class whichever of the two says it.
UnknownOption = price.UnknownOption
DealNotOpen = price.DealNotOpen
DealClosed = price.DealClosed
NotInDeal = price.NotInDeal


class SoldOut(Refusal):
    code, status, title = "sold_out", 409, "There are not that many left"


class LimitExceeded(Refusal):
    code, status, title = "limit_exceeded", 409, "This is over the deal's limit per customer"


class HoldLost(Refusal):
    code, status, title = "hold_lost", 409, "The reservation has ended"


class BelowReserved(Refusal):
    code, status, title = "below_reserved", 409, "More units are held or set aside than would be left"


class DealChanged(Refusal):
    code, status, title = "deal_changed", 409, "This deal was opened with another content"


class WrongItem(Refusal):
    code, status, title = "wrong_item", 409, "This option belongs to another item"
