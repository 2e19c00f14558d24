"""Deal owns time deals: title, window, prices and allotment as a merchant made them.

It decides no sale: it writes the allotment and limit into item.stock and the deal price into item.price beforehand,
and those two alone decide when an order names the deal.
"""

from doorbuster.domains.activation.deal.errors import NoListPrice, NotCheaper, WindowPast
from doorbuster.domains.activation.deal.models import Deal, DealDraft, DealLine, DealOption
from doorbuster.domains.activation.deal.service import get_deal, list_deals, make, sweep

__all__ = [
    "Deal", "DealDraft", "DealLine", "DealOption", "NoListPrice", "NotCheaper", "WindowPast", "get_deal",
    "list_deals", "make", "sweep",
]  # fmt: skip
