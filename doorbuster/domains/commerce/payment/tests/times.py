"""Time that a test lets pass, and the one minute of the day that it waits out."""

from __future__ import annotations

import asyncio
import datetime as dt

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store


async def let_minutes_pass(wish: payment.Charge) -> None:
    """Every attempt is so old that its charge is not sent again."""
    began = _clear_of_midnight(dt.datetime.now(dt.UTC) - dt.timedelta(minutes=3))
    await store.DB.write("UPDATE attempt SET created_at = $2 WHERE payment_id = $1 RETURNING 1", wish.payment_id, began)


async def let_hours_pass(wish: payment.Charge) -> None:
    """Every attempt is older than any provider's horizon, and none seems to have begun close to a Korean midnight."""
    began = _clear_of_midnight(dt.datetime.now(dt.UTC) - dt.timedelta(hours=3))
    await store.DB.write("UPDATE attempt SET created_at = $2 WHERE payment_id = $1 RETURNING 1", wish.payment_id, began)
    await store.DB.write(
        "UPDATE refund SET created_at = $2, sent_at = $2 WHERE payment_id = $1 AND state = 'sending' RETURNING 1",
        wish.payment_id, began,
    )  # fmt: skip


async def not_at_korean_midnight() -> None:
    """Wait until one asking is enough: what begins about midnight is asked for on two days in turns."""
    while (after_s := _s_after_korean_midnight(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=80))) < 142:
        await asyncio.sleep(min(1.0, 142 - after_s))


def _clear_of_midnight(began: dt.datetime) -> dt.datetime:
    near = _s_after_korean_midnight(began + dt.timedelta(seconds=60)) < 121
    return began - dt.timedelta(minutes=3) if near else began


def _s_after_korean_midnight(moment: dt.datetime) -> float:
    return (moment + dt.timedelta(hours=9)).timestamp() % 86_400
