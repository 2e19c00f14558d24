"""What account does: sign-up, login, refresh, logout, who am I, roles."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from datetime import datetime
from uuid import UUID

from doorbuster.domains.user.account import keys, passwords, rules, store
from doorbuster.domains.user.account.errors import (
    EmailTaken,
    RefreshTokenInvalid,
    RefreshTokenReused,
    TooManyAttempts,
    UnknownAccount,
    WrongCredentials,
)
from doorbuster.domains.user.account.models import Account, Credentials, Refresh, Role, SignUp, Tokens
from doorbuster.domains.user.account.rules import Verdict
from doorbuster.platform import ids, settings
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.clock import utc_now
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Forbidden, Unauthenticated

_SWEEP_LIMIT = 1_000


@command
async def sign_up(ctx: Ctx, wanted: SignUp) -> Account:
    """Make an account with the role shopper. Refuses `EmailTaken`, `InvalidEmail`."""
    email = rules.normalised_email(wanted.email)
    password_hash = await passwords.hashed(rules.normalised_password(wanted.password))
    account = Account(ids.uuid7(), email, wanted.name.strip(), ("shopper",), utc_now())
    async with store.DB.transaction() as conn:
        if not await store.add_account(conn, account, password_hash):
            raise EmailTaken()
    return account


@command
async def log_in(ctx: Ctx, credentials: Credentials) -> Tokens:
    """Tokens for a new family. Every attempt is counted before it is judged; one that succeeds clears the count.

    Refuses `WrongCredentials`, the same and as slowly for an unknown address, and `TooManyAttempts` after 10 attempts
    on one address within 15 minutes, with `retry_after_s`.
    """
    email = rules.normalised_email(credentials.email)
    address_hash = hashlib.sha256(email.encode()).digest()
    now = utc_now()
    async with store.DB.transaction() as conn:
        attempts, began_at = await store.count_attempt(conn, address_hash, now - rules.ATTEMPT_WINDOW, now)
    if wait_s := rules.retry_after_s(attempts, began_at, now):
        raise TooManyAttempts(f"Try again in {wait_s} s", retry_after_s=wait_s)
    found = await store.find_login(email)
    password = rules.normalised_password(credentials.password)
    fits = await passwords.fits(password, found[1] if found else None)
    if found is None or not fits:
        raise WrongCredentials()
    account = found[0]
    now, family_id, token = utc_now(), ids.uuid7(), _new_token()
    expires_at = now + rules.REFRESH_LIFETIME
    async with store.DB.transaction() as conn:
        await store.forget_attempts(conn, address_hash)
        await store.add_family(conn, family_id, account.id, now, expires_at)
        await store.add_token(conn, _hash(token), family_id, now, expires_at)
    return await _tokens(account, token)


@command
async def refresh(ctx: Ctx, presented: Refresh) -> Tokens:
    """The next tokens of a family; the presented one is used up. Roles are read anew.

    Refuses `RefreshTokenInvalid` (unknown, expired, revoked) and `RefreshTokenReused`: a token that comes a second time
    revokes its whole family, also when the two come at once and the first has won.
    """
    presented_hash, token = _hash(presented.refresh_token), _new_token()
    async with store.DB.transaction() as conn:
        family = await store.lock_family(conn, presented_hash)
        now = utc_now()  # after the lock: a token is judged when its turn comes
        verdict = rules.judged(await store.find_token(conn, presented_hash) if family else None, now)
        if family and verdict is Verdict.GOOD:
            await _rotate(conn, family[0], presented_hash, _hash(token), now)
        elif family and verdict is Verdict.REUSED:
            await store.revoke_family(conn, family[0], "reuse", now)
    # Refused outside the transaction: a refusal inside would roll the revocation back.
    if verdict is Verdict.REUSED:
        raise RefreshTokenReused()
    if family is None or verdict is not Verdict.GOOD:
        raise RefreshTokenInvalid()
    account = await store.find_account(family[1])
    assert account is not None, "a family belongs to an account (foreign key)"
    return await _tokens(account, token)


async def _rotate(conn: Conn, family_id: UUID, old: bytes, new: bytes, now: datetime) -> None:
    expires_at = now + rules.REFRESH_LIFETIME
    await store.use_token(conn, old, now)
    await store.prolong_family(conn, family_id, expires_at)
    await store.add_token(conn, new, family_id, now, expires_at)
    await store.drop_expired_tokens(conn, family_id, now)


@command
async def log_out(ctx: Ctx, presented: Refresh) -> None:
    """Revoke the family of the caller's refresh token; silent about a token that is unknown or somebody else's.

    An access token that was handed out stays good until it expires, at most 15 minutes.
    """
    async with store.DB.transaction() as conn:
        family = await store.lock_family(conn, _hash(presented.refresh_token))
        if family and family[1] == ctx.subject:
            await store.revoke_family(conn, family[0], "logout", utc_now())


@query
async def me(ctx: Ctx) -> Account:
    """The caller's account. Refuses `UnknownAccount` for a test token's subject, which has none."""
    if ctx.subject is None:
        raise Unauthenticated()
    account = await store.find_account(ctx.subject)
    if account is None:
        raise UnknownAccount("This token's subject has no account here")
    return account


@command
async def grant_role(ctx: Ctx, email: str, role: Role) -> Account:
    """Give an account a role, for admins and the shop itself; it counts from the next refresh or login."""
    if not ctx.roles & {"admin", "system"}:
        raise Forbidden("Only an admin gives roles")
    async with store.DB.transaction() as conn:
        account = await store.add_role(conn, rules.normalised_email(email), role)
    if account is None:
        raise UnknownAccount()
    return account


@command
async def remove_expired(ctx: Ctx) -> int:
    """Remove what no longer decides anything (expired families, old attempts), at most 1,000 of each; how many."""
    now = utc_now()
    async with store.DB.transaction() as conn:
        families = await store.drop_expired_families(conn, now, _SWEEP_LIMIT)
        attempts = await store.drop_old_attempts(conn, now - rules.ATTEMPT_WINDOW, _SWEEP_LIMIT)
    return families + attempts


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    # A plain hash is enough: 256 random bits cannot be guessed, so there is nothing to slow down.
    return hashlib.sha256(token.encode()).digest()


async def _tokens(account: Account, refresh_token: str) -> Tokens:
    access_token = await asyncio.to_thread(
        keys.mint_access_token,
        settings.current().signing_key_file,
        settings.current().issuer,
        account.id,
        account.roles,
        rules.ACCESS_LIFETIME_S,
    )
    return Tokens(access_token=access_token, refresh_token=refresh_token, expires_in=rules.ACCESS_LIFETIME_S)
