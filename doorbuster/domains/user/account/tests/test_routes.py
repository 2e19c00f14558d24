"""Account's routes: what clients see."""

from __future__ import annotations

from typing import Any

import pytest

from doorbuster.platform import ids

PASSWORD = "a long enough password"


def who() -> dict[str, str]:
    return {"email": f"user-{ids.uuid7()}@example.com", "password": PASSWORD}


async def test_sign_up_log_in_refresh_log_out(api: Any) -> None:
    person = who()
    made = await api.post("/api/v1/account/signup", json=person | {"name": "Ada"})
    assert made.status_code == 201
    assert (made.json()["email"], made.json()["name"], made.json()["roles"]) == (person["email"], "Ada", ["shopper"])
    login = await api.post("/api/v1/account/login", json=person)
    assert login.status_code == 200
    assert login.headers["cache-control"] == "no-store"
    assert (login.json()["token_type"], login.json()["expires_in"]) == ("Bearer", 900)
    caller = api.as_user(made.json()["id"], "shopper")
    assert (await caller.get("/api/v1/account/me")).json() == made.json()
    sent = {"refresh_token": login.json()["refresh_token"]}
    renewed = await api.post("/api/v1/account/refresh", json=sent)
    assert renewed.status_code == 200
    reused = await api.post("/api/v1/account/refresh", json=sent)
    assert (reused.status_code, reused.json()["code"]) == (401, "refresh_token_reused")
    gone = await caller.post("/api/v1/account/logout", json={"refresh_token": renewed.json()["refresh_token"]})
    assert (gone.status_code, gone.content) == (204, b"")


async def test_taken_address_is_a_conflict(api: Any) -> None:
    person = who()
    await api.post("/api/v1/account/signup", json=person)
    again = await api.post("/api/v1/account/signup", json=person | {"email": person["email"].upper()})
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")


async def test_failed_login_never_says_why(api: Any) -> None:
    person = who()
    await api.post("/api/v1/account/signup", json=person)
    answers = [
        await api.post("/api/v1/account/login", json=person | {"password": "wrong"}),
        await api.post("/api/v1/account/login", json=who()),
    ]
    said = [answer.json() | {"request_id": ""} for answer in answers]
    assert said[0] == said[1]
    assert (answers[0].status_code, said[0]["code"]) == (401, "wrong_credentials")


async def test_locked_address_says_when_to_come_back(api: Any) -> None:
    person = who()
    for _ in range(10):
        await api.post("/api/v1/account/login", json=person)
    answer = await api.post("/api/v1/account/login", json=person)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
    assert 0 < int(answer.headers["retry-after"]) <= 901


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"password": "too short"}, "invalid_request"),
        ({"password": "x" * 129}, "invalid_request"),
        ({"email": "nobody"}, "invalid_email"),
        ({"email": "a@example.com\x00"}, "invalid_email"),
        ({"email": "x" * 255}, "invalid_request"),
        ({"name": "a\x00b"}, "invalid_request"),
        ({"role": "admin"}, "invalid_request"),
        ({"roles": ["admin"]}, "invalid_request"),
    ],
)
async def test_bad_sign_up_is_refused_without_repeating_the_password(
    api: Any, changes: dict[str, Any], code: str
) -> None:
    sent = who() | changes
    answer = await api.post("/api/v1/account/signup", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert sent["password"] not in answer.text


async def test_who_am_i_needs_an_account(api: Any) -> None:
    assert (await api.get("/api/v1/account/me")).status_code == 401
    stranger = await api.as_user(ids.uuid7(), "shopper").get("/api/v1/account/me")
    assert (stranger.status_code, stranger.json()["code"]) == (404, "unknown_account")


async def test_public_keys_are_public_and_hold_nothing_secret(api: Any) -> None:
    answer = await api.get("/api/v1/account/jwks")
    assert answer.headers["content-type"].startswith("application/json")
    assert "max-age" in answer.headers["cache-control"]
    assert [sorted(key) for key in answer.json()["keys"]] == [["alg", "e", "kid", "kty", "n", "use"]]
