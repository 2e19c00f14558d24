"""What runs beside the requests: who hears which facts, what is swept, which work is due at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import time

from doorbuster import map
from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import consumers as deal_consumers
from doorbuster.domains.commerce import ledger, order, payment
from doorbuster.domains.commerce.ledger import consumers as ledger_consumers
from doorbuster.domains.commerce.order import consumers as order_consumers
from doorbuster.domains.item import stock
from doorbuster.domains.item.price import consumers as price_consumers
from doorbuster.domains.user import account
from doorbuster.engines.event_log import Subscription, retention
from doorbuster.engines.schedule import Daily, Every, Job, Run, Sweep
from doorbuster.platform.calls import SYSTEM

SUBSCRIPTIONS = (
    Subscription("item.price", "item.catalog", frozenset({"ItemChanged"}), price_consumers.on_item_changed),
    Subscription(
        "commerce.order",
        "commerce.payment",
        frozenset({"PaymentSettled", "PaymentReopened"}),
        order_consumers.on_payment_news,
        0.1,
    ),
    # Nobody waits for the books: what moved in a second is booked in one transaction.
    Subscription(
        "commerce.ledger", "commerce.payment", frozenset({"MoneyMoved"}), ledger_consumers.on_money_moved, 1.0
    ),
    # A deal shows what is left of it as of a moment ago, however many orders there are.
    Subscription(
        "activation.deal", "item.stock", frozenset({"AllotmentChanged"}), deal_consumers.on_allotment_changed, 0.1
    ),
)

# Each is safe in two processes at once; the scheduler lets one at a time do it.
SWEEPERS = (
    Sweep("order.sweep", "commerce.order", 0.5, lambda: order.sweep(SYSTEM, 64)),
    Sweep("payment.resolve", "commerce.payment", 0.5, lambda: payment.resolve(SYSTEM, 64)),
    Sweep("stock.expire", "item.stock", 1.0, lambda: stock.sweep(SYSTEM, 256)),
    Sweep("deal.finish", "activation.deal", 2.0, lambda: deal.sweep(SYSTEM, 16)),
    Sweep("order.orphans", "commerce.order", 10.0, lambda: order.release_orphans(SYSTEM)),
)


async def _remove_expired(run: Run) -> None:
    """Remove tokens and log-in attempts that no longer decide anything. Twice is as good as once, so no chunks."""
    removed = 0
    while found := await account.remove_expired(SYSTEM):
        run.note(removed=(removed := removed + found))


async def _forget_webhooks(run: Run) -> None:
    """Remove webhook events that no provider sends again. Twice is as good as once, so no chunks."""
    removed = 0
    while found := await payment.forget_webhooks(SYSTEM):
        run.note(removed=(removed := removed + found))


def _keep_days(domain: str) -> Callable[[Run], Awaitable[None]]:
    async def keep(run: Run) -> None:
        made, dropped = await retention.keep_days(domain)
        run.note(made=made, dropped=", ".join(dropped))

    return keep


# Work that is due at a time and has a history. Each runs once per tick, in whichever worker takes it.
JOBS = (
    Job("account.tokens", "user.account", Every(3_600), _remove_expired),
    Job("payment.webhooks", "commerce.payment", Every(3_600), _forget_webhooks),
    # A tick makes up for the days that earlier ones missed, so the newest is enough.
    Job("ledger.reconcile", "commerce.ledger", Daily(time(4, 30)), ledger.run_daily, timeout_s=7_200),
    *(Job(f"{d.name}.log", d.id, Every(3_600), _keep_days(d.id)) for d in map.BUILT if d.publishes),
)

SCHEDULED: tuple[Sweep | Job, ...] = (*SWEEPERS, *JOBS)
