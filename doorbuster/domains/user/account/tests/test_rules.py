"""Account rules, without anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorbuster.domains.user.account import InvalidEmail
from doorbuster.domains.user.account.models import Credentials, Refresh, SignUp, Tokens
from doorbuster.domains.user.account.rules import (
    ATTEMPT_WINDOW,
    TokenRow,
    Verdict,
    judged,
    normalised_email,
    normalised_password,
    retry_after_s,
)

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("A@Example.com", "a@example.com"),
        ("  a.b+c@Example.COM ", "a.b+c@example.com"),
        ("김@한국.한국", "김@xn--3e0b707e.xn--3e0b707e"),
        ("a@München.de", "a@xn--mnchen-3ya.de"),
        ("Cafe\u0301@example.com", "caf\u00e9@example.com"),
    ],
)
def test_one_address_has_one_spelling(text: str, email: str) -> None:
    assert normalised_email(text) == email
    assert normalised_email(email) == email


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a",
        "a@b",
        "a@.com",
        "a@b..com",
        "a b@example.com",
        ".a@example.com",
        "a..b@example.com",
        "a@-example.com",
        "a@exa mple.com",
        "a@example.com\x00",
        "a\n@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + "bb." * 90 + "com",
        "a@[127.0.0.1]",
        '"a b"@example.com',
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidEmail):
        normalised_email(text)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_an_address_in_one_spelling_or_refused(local: str, domain: str) -> None:
    try:
        email = normalised_email(f"{local}@{domain}")
    except InvalidEmail:
        return
    assert normalised_email(email) == email
    assert email == email.lower()
    assert len(email) <= 254


def test_password_typed_on_another_keyboard_is_the_same() -> None:
    assert normalised_password("\uff50\uff41ss\u1100\u1161") == normalised_password("pass\uac00")


def test_eleventh_attempt_waits_until_the_window_ends() -> None:
    began_at = NOW - timedelta(minutes=5)
    assert retry_after_s(10, began_at, NOW) == 0
    assert retry_after_s(11, began_at, NOW) == 601
    assert retry_after_s(11, NOW - ATTEMPT_WINDOW, NOW) == 1


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        (None, Verdict.INVALID),
        (TokenRow(used=False, expires_at=NOW + timedelta(seconds=1), revoked=False), Verdict.GOOD),
        (TokenRow(used=False, expires_at=NOW, revoked=False), Verdict.INVALID),
        (TokenRow(used=False, expires_at=NOW + timedelta(seconds=1), revoked=True), Verdict.INVALID),
        (TokenRow(used=True, expires_at=NOW + timedelta(seconds=1), revoked=False), Verdict.REUSED),
        (TokenRow(used=True, expires_at=NOW - timedelta(seconds=1), revoked=True), Verdict.REUSED),
    ],
)
def test_refresh_token_is_judged_strictly(token: TokenRow | None, verdict: Verdict) -> None:
    assert judged(token, NOW) is verdict


def test_no_secret_shows_in_a_repr() -> None:
    secret = "correct horse battery"
    for value in (
        SignUp("a@example.com", secret),
        Credentials("a@example.com", secret),
        Refresh(secret),
        Tokens(secret, secret, 900),
    ):
        assert secret not in repr(value)
        assert secret not in f"{value}"
