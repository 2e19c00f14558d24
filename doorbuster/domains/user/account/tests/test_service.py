"""Account's verbs on real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import timedelta
from uuid import UUID

import jwt
import pytest

from doorbuster.domains.user import account
from doorbuster.domains.user.account import Credentials, Refresh, SignUp, Tokens
from doorbuster.domains.user.account.store import DB
from doorbuster.platform import ids, settings
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.clock import utc_now
from doorbuster.platform.errors import Forbidden, Refusal

PASSWORD = "a long enough password"


def fresh_email() -> str:
    return f"user-{ids.uuid7()}@example.com"


async def somebody() -> tuple[account.Account, Tokens]:
    email = fresh_email()
    made = await account.sign_up(SYSTEM, SignUp(email, PASSWORD, "Ada"))
    return made, await account.log_in(SYSTEM, Credentials(email, PASSWORD))


def claims_of(tokens: Tokens) -> dict[str, object]:
    keys = jwt.PyJWKSet.from_json(account.keys.jwks(settings.current().signing_key_file))
    kid = jwt.get_unverified_header(tokens.access_token)["kid"]
    claims: dict[str, object] = jwt.decode(
        tokens.access_token,
        keys[kid].key,
        algorithms=["RS256"],
        audience="doorbuster",
        issuer=settings.current().issuer,
    )
    return claims


async def refusal_of(token: str) -> str:
    with pytest.raises(Refusal) as caught:
        await account.refresh(SYSTEM, Refresh(token))
    return caught.value.code


async def test_who_signed_up_logs_in_as_a_shopper() -> None:
    made, tokens = await somebody()
    claims = claims_of(tokens)
    assert (claims["sub"], claims["roles"]) == (str(made.id), "shopper")
    assert await account.me(Ctx(subject=made.id)) == made


async def test_address_signs_up_once_whatever_its_spelling() -> None:
    email = fresh_email()
    spellings = [email, email.upper(), f" {email.title()} ", email]
    ends = await asyncio.gather(
        *(account.sign_up(SYSTEM, SignUp(one, PASSWORD)) for one in spellings), return_exceptions=True
    )
    assert sum(isinstance(end, account.EmailTaken) for end in ends) == 3
    assert sum(isinstance(end, account.Account) for end in ends) == 1


async def test_unknown_address_and_wrong_password_look_and_last_the_same() -> None:
    made, _ = await somebody()
    spent: dict[str, list[float]] = {made.email: [], fresh_email(): []}
    said = set()
    for _ in range(4):
        for email, times in spent.items():
            began = time.perf_counter()
            with pytest.raises(account.WrongCredentials) as caught:
                await account.log_in(SYSTEM, Credentials(email, "not the password"))
            times.append(time.perf_counter() - began)
            said.add((caught.value.detail, str(caught.value.members)))
    known, unknown = (min(times) for times in spent.values())
    assert len(said) == 1
    assert 1 / 3 < known / unknown < 3


async def test_eleventh_failed_login_waits_even_with_the_right_password() -> None:
    made, _ = await somebody()
    for _ in range(10):
        with pytest.raises(account.WrongCredentials):
            await account.log_in(SYSTEM, Credentials(made.email, "not the password"))
    with pytest.raises(account.TooManyAttempts) as caught:
        await account.log_in(SYSTEM, Credentials(made.email, PASSWORD))
    assert 0 < caught.value.members["retry_after_s"] <= 901


async def test_guesses_at_once_are_counted_each_also_for_an_unknown_address() -> None:
    email = fresh_email()
    guesses = [account.log_in(SYSTEM, Credentials(email, f"guess number {turn}")) for turn in range(25)]
    ends = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(end, account.WrongCredentials) for end in ends) == 10
    assert sum(isinstance(end, account.TooManyAttempts) for end in ends) == 15


async def test_login_clears_the_count_and_time_does() -> None:
    made, _ = await somebody()
    for _ in range(2):
        for _ in range(6):
            with pytest.raises(account.WrongCredentials):
                await account.log_in(SYSTEM, Credentials(made.email, "not the password"))
        await account.log_in(SYSTEM, Credentials(made.email, PASSWORD))
    address_hash = hashlib.sha256(made.email.encode()).digest()
    async with DB.transaction() as conn:
        await conn.execute(
            "INSERT INTO login_attempts VALUES ($1, 99, $2)", address_hash, utc_now() - timedelta(minutes=15)
        )
    assert await account.log_in(SYSTEM, Credentials(made.email, PASSWORD))


async def test_each_refresh_token_is_good_once_and_the_next_one_works() -> None:
    made, tokens = await somebody()
    for _ in range(3):
        tokens = await account.refresh(SYSTEM, Refresh(tokens.refresh_token))
        assert claims_of(tokens)["sub"] == str(made.id)


async def test_token_used_twice_ends_its_family_and_no_other() -> None:
    made, first = await somebody()
    other = await account.log_in(SYSTEM, Credentials(made.email, PASSWORD))
    second = await account.refresh(SYSTEM, Refresh(first.refresh_token))
    assert await refusal_of(first.refresh_token) == "refresh_token_reused"
    assert await refusal_of(second.refresh_token) == "refresh_token_invalid"
    assert await refusal_of(first.refresh_token) == "refresh_token_reused"
    assert await account.refresh(SYSTEM, Refresh(other.refresh_token))


async def test_of_refreshes_at_once_with_one_token_exactly_one_wins() -> None:
    _, tokens = await somebody()
    ends = await asyncio.gather(
        *(account.refresh(SYSTEM, Refresh(tokens.refresh_token)) for _ in range(6)), return_exceptions=True
    )
    winners = [end for end in ends if isinstance(end, Tokens)]
    assert len(winners) == 1
    assert sum(isinstance(end, account.RefreshTokenReused) for end in ends) == 5
    assert await refusal_of(winners[0].refresh_token) == "refresh_token_invalid"


async def test_token_that_was_never_given_is_refused() -> None:
    assert await refusal_of("nonsense") == "refresh_token_invalid"


async def expire(account_id: UUID) -> None:
    async with DB.transaction() as conn:
        await conn.execute("UPDATE families SET expires_at = now() - interval '1 s' WHERE account_id = $1", account_id)
        await conn.execute(
            "UPDATE refresh_tokens SET expires_at = now() - interval '1 s'"
            " WHERE family_id IN (SELECT id FROM families WHERE account_id = $1)",
            account_id,
        )


async def test_expired_token_is_refused_and_its_family_is_removed() -> None:
    made, tokens = await somebody()
    await expire(made.id)
    assert await refusal_of(tokens.refresh_token) == "refresh_token_invalid"
    assert await account.remove_expired(SYSTEM) >= 1
    assert await DB.fetch("SELECT FROM families WHERE account_id = $1", made.id) == []


async def test_logout_ends_the_callers_family_and_nobody_elses() -> None:
    made, tokens = await somebody()
    stranger, _ = await somebody()
    await account.log_out(Ctx(subject=stranger.id), Refresh(tokens.refresh_token))
    tokens = await account.refresh(SYSTEM, Refresh(tokens.refresh_token))
    await account.log_out(Ctx(subject=made.id), Refresh(tokens.refresh_token))
    await account.log_out(Ctx(subject=made.id), Refresh(tokens.refresh_token))
    assert await refusal_of(tokens.refresh_token) == "refresh_token_invalid"


async def test_admin_gives_a_role_that_counts_from_the_next_refresh() -> None:
    made, tokens = await somebody()
    with pytest.raises(Forbidden):
        await account.grant_role(Ctx(subject=made.id, roles=frozenset({"merchant"})), made.email, "admin")
    for _ in range(2):
        granted = await account.grant_role(Ctx(roles=frozenset({"admin"})), made.email.upper(), "merchant")
        assert granted.roles == ("shopper", "merchant")
    assert claims_of(await account.refresh(SYSTEM, Refresh(tokens.refresh_token)))["roles"] == "merchant shopper"
    with pytest.raises(account.UnknownAccount):
        await account.grant_role(SYSTEM, fresh_email(), "merchant")


async def test_database_holds_neither_passwords_nor_tokens() -> None:
    made, tokens = await somebody()
    rows = await DB.fetch(
        "SELECT a::text || f::text || t::text AS row FROM accounts a JOIN families f ON f.account_id = a.id"
        " JOIN refresh_tokens t ON t.family_id = f.id WHERE a.id = $1",
        made.id,
    )
    assert len(rows) == 1
    for secret in (PASSWORD, tokens.refresh_token, tokens.refresh_token.encode().hex()):
        assert secret not in rows[0]["row"]
    assert "$argon2id$v=19$m=19456,t=2,p=1$" in rows[0]["row"]
