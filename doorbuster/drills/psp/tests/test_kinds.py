"""Accounts of every kind: their names and weights, a card at each, and ledgers that read alike."""

from __future__ import annotations

import pytest

from doorbuster.drills.psp import kinds
from doorbuster.drills.psp.accounts import Account, accounts
from doorbuster.drills.psp.recorder import read_ledger


def test_one_kind_is_for_all_accounts_and_several_are_an_account_each() -> None:
    assert accounts(2) == (Account("psp-a", "sandbox", 60), Account("psp-b", "sandbox", 40))
    assert [one.kind for one in accounts(3, ("toss",))] == ["toss"] * 3
    assert accounts(2, ("toss", "stripe", "nicepay")) == (
        Account("toss", "toss", 50), Account("stripe", "stripe", 30), Account("nicepay", "nicepay", 20),
    )  # fmt: skip
    assert [one.name for one in accounts(2, ("toss", "toss"))] == ["psp-a", "psp-b"]
    with pytest.raises(ValueError, match="providers"):
        accounts(5)


def test_what_is_no_kind_is_refused() -> None:
    assert kinds.read_kinds(" toss, nicepay") == ("toss", "nicepay")
    for wrong in ("", "kakaopay", "toss,,stripe", "toss,toss,toss,toss,toss"):
        with pytest.raises(ValueError, match="--kinds"):
            kinds.read_kinds(wrong)


def test_a_ledger_of_a_real_kind_reads_like_the_sandboxs() -> None:
    captured = {
        "psp_key": "pk_1", "reference": "p-1_1", "amount_minor": 700, "refunded_minor": 200, "currency": "KRW",
        "at_ms": 2_500,
    }  # fmt: skip
    declined = {"psp_key": "pk_2", "reference": "p-2.1", "amount_minor": 9, "currency": "USD", "at_ms": 1_250}
    first, second = read_ledger("toss", kinds.as_charges([captured], [declined]), 1.0)
    assert (first.id, first.reference, first.captured, first.at, first.refunded_minor) == (
        "pk_2",
        "p-2.1",
        False,
        0.25,
        0,
    )
    assert (second.payment_id, second.number, second.captured, second.at) == ("p-1", 1, True, 1.5)
    assert (second.amount_minor, second.refunded_minor, second.currency) == (700, 200, "KRW")
