"""Wrong settlement rows are exactly those that were asked for."""

import csv
import io

from doorbuster.simulators.host.settlement import Columns, Seeds, as_csv, seeded

COLUMNS = Columns(key="key", amount="amount", fee="fee", pay_out="out")
ROWS = [{"key": f"k{n}", "amount": 1_000 * n, "fee": 10 * n, "out": 990 * n, "card": {"x": 1}} for n in range(1, 6)]


def test_no_seed_changes_nothing() -> None:
    assert seeded(ROWS, Seeds(), COLUMNS) == ROWS
    assert seeded([], Seeds(made_up=["k9"], missing=["k1"]), COLUMNS) == []


def test_each_seed_is_one_wrong() -> None:
    seeds = Seeds(missing=["k1"], twice=["k2"], amount={"k3": 7}, fee={"k4": -3}, made_up=["k9"])
    got = seeded(ROWS, seeds, COLUMNS)
    assert [row["key"] for row in got] == ["k2", "k2", "k3", "k4", "k5", "k9"]
    assert [(row["amount"], row["fee"], row["out"]) for row in got[2:4]] == [(3_007, 30, 2_977), (4_000, 37, 3_963)]
    assert all(row["amount"] - row["fee"] == row["out"] for row in got)
    assert ROWS[2]["amount"] == 3_000, "the rows themselves stay true"


def test_csv_has_the_plain_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert [row["key"] for row in rows] == [row["key"] for row in ROWS]
    assert set(rows[0]) == {"key", "amount", "fee", "out"}
    assert as_csv([]) == ""
