"""All SQL of account. Locks: a family before its tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from doorbuster.domains.user.account.models import Account
from doorbuster.domains.user.account.rules import TokenRow
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("user.account")

_ACCOUNT = "id, email, name, roles, created_at"


def _account(row: asyncpg.Record) -> Account:
    return Account(row["id"], row["email"], row["name"], tuple(row["roles"]), row["created_at"])


async def find_account(account_id: UUID) -> Account | None:
    row = await DB.fetchrow(f"SELECT {_ACCOUNT} FROM accounts WHERE id = $1", account_id)
    return _account(row) if row else None


async def find_login(email: str) -> tuple[Account, str] | None:
    """An account with its password hash."""
    row = await DB.fetchrow(f"SELECT {_ACCOUNT}, password_hash FROM accounts WHERE email = $1", email)
    return (_account(row), row["password_hash"]) if row else None


async def add_account(conn: Conn, account: Account, password_hash: str) -> bool:
    """Whether it was added: not when the address has an account."""
    added = await conn.fetchval(
        "INSERT INTO accounts (id, email, name, roles, created_at, password_hash) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (email) DO NOTHING RETURNING true",
        account.id,
        account.email,
        account.name,
        account.roles,
        account.created_at,
        password_hash,
    )
    return bool(added)


async def add_role(conn: Conn, email: str, role: str) -> Account | None:
    row = await conn.fetchrow(
        "UPDATE accounts SET roles = CASE WHEN $2 = ANY (roles) THEN roles ELSE roles || $2::text END"
        f" WHERE email = $1 RETURNING {_ACCOUNT}",
        email,
        role,
    )
    return _account(row) if row else None


async def count_attempt(conn: Conn, address_hash: bytes, window_start: datetime, now: datetime) -> tuple[int, datetime]:
    """Count one attempt; (attempts in the window, when it began). One statement, so that attempts at once all count."""
    row = await conn.fetchrow(
        "INSERT INTO login_attempts AS a (address_hash, attempts, began_at) VALUES ($1, 1, $3)"
        " ON CONFLICT (address_hash) DO UPDATE SET"
        " attempts = CASE WHEN a.began_at <= $2 THEN 1 ELSE least(a.attempts + 1, 1000000) END,"
        " began_at = CASE WHEN a.began_at <= $2 THEN $3 ELSE a.began_at END"
        " RETURNING attempts, began_at",
        address_hash,
        window_start,
        now,
    )
    assert row is not None
    return row["attempts"], row["began_at"]


async def forget_attempts(conn: Conn, address_hash: bytes) -> None:
    await conn.execute("DELETE FROM login_attempts WHERE address_hash = $1", address_hash)


async def add_family(conn: Conn, family_id: UUID, account_id: UUID, now: datetime, expires_at: datetime) -> None:
    await conn.execute(
        "INSERT INTO families (id, account_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        family_id,
        account_id,
        now,
        expires_at,
    )


async def add_token(conn: Conn, token_hash: bytes, family_id: UUID, now: datetime, expires_at: datetime) -> None:
    await conn.execute(
        "INSERT INTO refresh_tokens (hash, family_id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        token_hash,
        family_id,
        now,
        expires_at,
    )


async def lock_family(conn: Conn, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """(family, account) of a token, its family locked: whoever comes second sees what the first one did."""
    row = await conn.fetchrow(
        "SELECT f.id, f.account_id FROM families f"
        " WHERE f.id = (SELECT family_id FROM refresh_tokens WHERE hash = $1) FOR UPDATE",
        token_hash,
    )
    return (row["id"], row["account_id"]) if row else None


async def find_token(conn: Conn, token_hash: bytes) -> TokenRow | None:
    row = await conn.fetchrow(
        "SELECT t.used_at IS NOT NULL, t.expires_at, f.revoked_at IS NOT NULL"
        " FROM refresh_tokens t JOIN families f ON f.id = t.family_id WHERE t.hash = $1",
        token_hash,
    )
    return TokenRow(*row) if row else None


async def use_token(conn: Conn, token_hash: bytes, now: datetime) -> None:
    await conn.execute("UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1", token_hash, now)


async def prolong_family(conn: Conn, family_id: UUID, expires_at: datetime) -> None:
    await conn.execute("UPDATE families SET expires_at = greatest(expires_at, $2) WHERE id = $1", family_id, expires_at)


async def drop_expired_tokens(conn: Conn, family_id: UUID, now: datetime) -> None:
    await conn.execute("DELETE FROM refresh_tokens WHERE family_id = $1 AND expires_at <= $2", family_id, now)


async def revoke_family(conn: Conn, family_id: UUID, why: str, now: datetime) -> None:
    await conn.execute(
        "UPDATE families SET revoked_at = $3, revoked_by = $2 WHERE id = $1 AND revoked_at IS NULL", family_id, why, now
    )


async def drop_expired_families(conn: Conn, now: datetime, limit: int) -> int:
    """Families (with their tokens) of which no token is good any more; how many went."""
    rows = await conn.fetch(
        "DELETE FROM families WHERE id IN"
        " (SELECT id FROM families WHERE expires_at <= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        now,
        limit,
    )
    return len(rows)


async def drop_old_attempts(conn: Conn, window_start: datetime, limit: int) -> int:
    rows = await conn.fetch(
        "DELETE FROM login_attempts WHERE address_hash IN (SELECT address_hash FROM login_attempts"
        " WHERE began_at <= $1 ORDER BY address_hash LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1",
        window_start,
        limit,
    )
    return len(rows)
