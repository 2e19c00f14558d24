"""Stock owns how many units there are: options, items, allotments, limits per customer, reservations.

It promises: no unit is promised twice, no limit is passed, no deadlock, under any concurrency and after any crash.
Every write locks options, items, allotments in key order and is one shared transaction of this domain.
"""

from doorbuster.domains.item.stock.errors import (
    BelowReserved,
    DealChanged,
    DealClosed,
    DealNotOpen,
    HoldLost,
    LimitExceeded,
    NotInDeal,
    SoldOut,
    UnknownOption,
    WrongItem,
)
from doorbuster.domains.item.stock.events import FACTS, AllotmentChanged, StockChanged
from doorbuster.domains.item.stock.models import (
    AllotmentLevel,
    Level,
    Line,
    OpenAllotment,
    Reservation,
    Reserve,
    SetOnHand,
)
from doorbuster.domains.item.stock.service import (
    Made,
    abandon,
    allotments,
    claim,
    extend,
    level,
    levels,
    made_between,
    open_allotment,
    release,
    reserve,
    set_on_hand,
    sweep,
)

__all__ = [
    "FACTS", "AllotmentChanged", "AllotmentLevel", "BelowReserved", "DealChanged", "DealClosed", "DealNotOpen",
    "HoldLost",
    "Level", "LimitExceeded", "Line", "Made", "NotInDeal", "OpenAllotment", "Reservation", "Reserve", "SetOnHand",
    "SoldOut", "StockChanged", "UnknownOption", "WrongItem", "abandon", "allotments", "claim", "extend", "level",
    "levels", "made_between", "open_allotment", "release", "reserve", "set_on_hand", "sweep",
]  # fmt: skip
