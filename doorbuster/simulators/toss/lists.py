"""What Toss lists for reconciliation: transactions and settlement rows, oldest first, in pages."""

from doorbuster.simulators.host.settlement import Columns, Seeds, seeded
from doorbuster.simulators.toss.books import Books
from doorbuster.simulators.toss.errors import Refused
from doorbuster.simulators.toss.payment import Move, Payment
from doorbuster.simulators.toss.requests import Page
from doorbuster.simulators.toss.settlement import settlement_view
from doorbuster.simulators.toss.views import View, transaction_view


def transactions(books: Books, page: Page) -> list[View]:
    """Those whose time is in the span, after the paging key. Raises Refused for a key that is not among them."""
    rows = [(payment, move) for payment, move in _moves(books) if page.from_ms <= move.at_ms < page.until_ms]
    first = 0
    if page.starting_after is not None:
        keys = [move.transaction_key for _, move in rows]
        if page.starting_after not in keys:
            raise Refused("INVALID_TRANSACTION_KEY")
        first = keys.index(page.starting_after) + 1
    return [transaction_view(payment, move) for payment, move in rows[first : first + page.limit]]


COLUMNS = Columns(key="transactionKey", amount="amount", fee="fee", pay_out="payOutAmount")


def settlements(books: Books, seeds: Seeds, start: str, end: str, page: Page) -> list[View]:
    """Those sold, or paid out, from the day `start` to the day `end`, both included (yyyy-MM-dd)."""
    name = "paidOutDate" if page.by_paid_out else "soldDate"
    wanted = [view for view in settlement_rows(books, seeds) if start <= view[name] <= end]
    return wanted[page.skip : page.skip + page.limit]


def settlement_rows(books: Books, seeds: Seeds) -> list[View]:
    """One row for each movement of money there ever was, and the wrongs that were asked for."""
    return seeded([settlement_view(payment, move) for payment, move in _moves(books)], seeds, COLUMNS)


def _moves(books: Books) -> list[tuple[Payment, Move]]:
    moves = [(payment, move) for payment in books.payments.values() for move in payment.moves]
    return sorted(moves, key=lambda row: (row[1].at_ms, row[1].transaction_key))
