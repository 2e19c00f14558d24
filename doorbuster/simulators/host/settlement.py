"""Wrong settlement rows on demand: what a reconciliation must find, seeded where the provider lists its rows."""

import csv
import io
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

MAX_SEEDED = 10_000

Row = dict[str, Any]
Keys = Annotated[list[str], Meta(max_length=MAX_SEEDED)]
Deltas = Annotated[dict[str, int], Meta(max_length=MAX_SEEDED)]


class Columns(Struct, frozen=True):
    """The names a provider gives the columns that may be wrong."""

    key: str
    amount: str
    fee: str
    pay_out: str


class Seeds(Struct, frozen=True, forbid_unknown_fields=True):
    """By transaction key: rows left out, rows listed twice, amounts and fees that are off by so much, rows made up.

    A made-up row is a copy of the first row under a key of its own.
    """

    missing: Keys = []
    twice: Keys = []
    amount: Deltas = {}
    fee: Deltas = {}
    made_up: Keys = []


def seeded(rows: Sequence[Row], seeds: Seeds, columns: Columns) -> list[Row]:
    """The rows with the wrongs in them; what is paid out stays amount minus fee."""
    missing, twice = set(seeds.missing), set(seeds.twice)
    result: list[Row] = []
    for row in rows:
        key = row[columns.key]
        if key in missing:
            continue
        wrong = _off(row, columns, seeds.amount.get(key, 0), seeds.fee.get(key, 0))
        result += [wrong, wrong] if key in twice else [wrong]
    if rows:
        result += [{**rows[0], columns.key: key} for key in seeds.made_up]
    return result


def as_csv(rows: Sequence[Row]) -> str:
    """The plain columns of the rows, with a header; nested values are left out."""
    if not rows:
        return ""
    names = [name for name, value in rows[0].items() if not isinstance(value, dict | list)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _off(row: Row, columns: Columns, amount: int, fee: int) -> Row:
    if not amount and not fee:
        return row
    wrong = {**row, columns.amount: row[columns.amount] + amount, columns.fee: row[columns.fee] + fee}
    wrong[columns.pay_out] = wrong[columns.amount] - wrong[columns.fee]
    return wrong
