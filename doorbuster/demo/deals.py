"""The demo shop's time deals as plain values: one open from the first start, one about to open, one for tomorrow."""

from __future__ import annotations

import msgspec

_MINUTE_S, _DAY_S = 60, 86_400


class DemoDeal(msgspec.Struct, frozen=True):
    """A deal on every option of one product of the demo catalogue.

    `percent_off` is taken from each option's list price. `allotment_percent` of each option's stock is set aside for
    the deal. The window opens `opens_after_s` after the first start and lasts `lasts_s`, both in seconds.
    """

    handle: str
    title: str
    percent_off: int
    allotment_percent: int
    limit_per_customer: int
    opens_after_s: int
    lasts_s: int


def deal_price_minor(list_price_minor: int, percent_off: int) -> int:
    """The price in a deal, in minor units; halves of a minor unit go to the customer."""
    assert 0 < percent_off < 100, "a deal is neither free nor dearer"
    return list_price_minor * (100 - percent_off) // 100


DEALS: tuple[DemoDeal, ...] = (
    DemoDeal(
        handle="tarn-runner",
        title="Tarn Runner: the opening-week drop",
        percent_off=40,
        allotment_percent=60,
        limit_per_customer=3,
        opens_after_s=0,
        lasts_s=7 * _DAY_S,
    ),
    DemoDeal(
        handle="kiln-mug",
        title="Kiln Mug: the half-hour countdown",
        percent_off=50,
        allotment_percent=50,
        limit_per_customer=4,
        opens_after_s=30 * _MINUTE_S,
        lasts_s=2 * 60 * _MINUTE_S,
    ),
    DemoDeal(
        handle="squall-shell-jacket",
        title="Squall Shell: tomorrow's storm warning",
        percent_off=35,
        allotment_percent=50,
        limit_per_customer=1,
        opens_after_s=_DAY_S,
        lasts_s=_DAY_S,
    ),
)
