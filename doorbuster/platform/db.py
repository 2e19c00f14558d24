"""PostgreSQL access: one lazily opened pool per domain, transactions that tell a lost COMMIT from a refused one.

Each domain logs in with its own role, whose search_path is its own schema; no domain can read a neighbour's tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from doorbuster.platform import settings
from doorbuster.platform.calls import open_transaction
from doorbuster.platform.errors import OutcomeUnknown, Unavailable
from doorbuster.platform.settings import DatabaseLogin
from doorbuster.platform.sql_spans import connection_of

if TYPE_CHECKING:
    Conn = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    # The class is generic for type checkers only.
    Conn = asyncpg.pool.PoolConnectionProxy
_json = msgspec.json.Encoder()

_ACQUIRE_TIMEOUT_S = 5.0
_STATEMENT_TIMEOUT_S = 10.0
_IDLE_CLOSE_S = 30.0

# What the server (or its absence) says when a connection is gone. At COMMIT each of these leaves the outcome open:
# a backend told to terminate may have committed before it looked.
LOST = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection whose server ended while it lay idle in the pool.
    asyncpg.InternalClientError,
    ConnectionError,
    OSError,
    TimeoutError,
)


class Database:
    """Guards the pool of one domain, or of those who read one group's outboxes."""

    def __init__(
        self,
        domain: str,
        login: Callable[[], DatabaseLogin] | None = None,
        session: Mapping[str, str] | None = None,
    ) -> None:
        self.domain = domain
        self._session = dict(session or {})
        self._login = login or (lambda: settings.current().databases[domain])
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        loop = asyncio.get_running_loop()
        if self._pool is not None and self._loop is loop:
            return self._pool
        async with self._opening:
            if self._pool is None or self._loop is not loop:
                login = self._login()
                self._pool = await asyncpg.create_pool(
                    host=login.host,
                    port=login.port,
                    database=login.database,
                    user=login.user,
                    password=login.password,
                    min_size=0,
                    max_size=settings.current().pool_size,
                    max_inactive_connection_lifetime=_IDLE_CLOSE_S,
                    command_timeout=_STATEMENT_TIMEOUT_S,
                    timeout=_ACQUIRE_TIMEOUT_S,
                    # The default reset is a round trip after every use; no session state is ever changed here.
                    reset=_keep,
                    connection_class=connection_of(self.domain),
                    server_settings=({"search_path": f'"{login.schema}"'} if login.schema else {})
                    | {
                        "application_name": f"doorbuster {self.domain}",
                        "lock_timeout": "4s",
                        "idle_in_transaction_session_timeout": "15s",
                        # Every statement of a domain goes by key. A plan made while a table was still empty would scan
                        # it, and stay cached while the table grows to millions of rows on a deal's night.
                        "enable_seqscan": "off",
                        "enable_hashjoin": "off",
                        "enable_mergejoin": "off",
                    }
                    | self._session,
                )
                self._loop = loop
            return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Conn]:
        """A pooled connection outside any transaction. `Unavailable` when the database is away."""
        try:
            pool = await self._open()
            connection = await pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
        except (*LOST, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
            raise Unavailable(f"The database of {self.domain} is away") from error
        try:
            yield connection
        except LOST as error:
            raise Unavailable(f"The database of {self.domain} went away") from error
        finally:
            # A transaction that could neither be committed nor rolled back (cancelled, timed out) must not be handed to
            # the next user, who would commit what it wrote. A connection that was lost has left the pool by itself.
            with suppress(asyncpg.InterfaceError, asyncpg.InternalClientError):
                if connection.is_in_transaction():
                    connection.terminate()
            with suppress(*LOST):
                await pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Conn]:
        """One transaction, READ COMMITTED. Raises `OutcomeUnknown` when the connection is lost at COMMIT.

        A connection lost earlier raises `Unavailable`: nothing was committed. No verb may be called inside.
        """
        assert not open_transaction.get(), f"{self.domain} opens a transaction inside one of {open_transaction.get()}"
        async with self.connection() as connection:
            await connection.execute("BEGIN")
            token = open_transaction.set(self.domain)
            try:
                yield connection
            except BaseException:
                open_transaction.reset(token)
                with suppress(*LOST, asyncpg.PostgresError):
                    await connection.execute("ROLLBACK")
                raise
            open_transaction.reset(token)
            try:
                ended = await connection.execute("COMMIT")
            except (*LOST, asyncio.CancelledError) as error:
                # A connection that was lost has left the pool already, and terminate() of it would hide what happened.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise OutcomeUnknown(f"The connection of {self.domain} was lost at COMMIT") from error
            # PostgreSQL answers COMMIT of a transaction in which a statement failed with ROLLBACK, and no error.
            assert ended == "COMMIT", f"a failed statement was overlooked in a transaction of {self.domain}: {ended}"

    async def write(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one statement that is a transaction of its own: one round trip instead of three.

        Raises `OutcomeUnknown` when the connection is lost meanwhile, `Unavailable` when none could be had.
        """
        async with self.connection() as connection:
            try:
                return list(await connection.fetch(query, *args))
            except (*LOST, asyncio.CancelledError) as error:
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise OutcomeUnknown(f"The connection of {self.domain} was lost during a write") from error

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one read."""
        async with self.connection() as connection:
            return list(await connection.fetch(query, *args))

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        """The first row of one read, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args)

    async def close(self) -> None:
        """Close the pool; the next use opens it again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 3)
            except TimeoutError:
                pool.terminate()


async def _keep(_: Any) -> None:
    """Nothing to reset: sessions are never changed."""


_databases: dict[str, Database] = {}
_logs: dict[str, Database] = {}


def of(domain: str) -> Database:
    """The database of a domain, by its name in the map (`item.stock`)."""
    return _databases.setdefault(domain, Database(domain))


def log_of(source: str) -> Database:
    """The database in which a domain's outbox can be read, by the login of its group's listeners."""
    group = source.split(".")[0]
    if group not in _logs:
        # A look at an idle log costs less than planning it for each value, than starting workers for it, and than
        # compiling it, all of which the estimates for a log of many days would call for.
        session = {"plan_cache_mode": "force_generic_plan", "max_parallel_workers_per_gather": "0", "jit": "off"}
        _logs[group] = Database(f"log of {group}", lambda: settings.current().outboxes[group], session)
    return _logs[group]


def beside(domain: str, schema: str) -> Database:
    """The database of a domain by its own login, but in another schema of it."""

    def login() -> DatabaseLogin:
        return msgspec.structs.replace(settings.current().databases[domain], schema=schema)

    return _databases.setdefault(f"{domain} in {schema}", Database(domain, login))


async def close_all() -> None:
    """Close every pool of this process."""
    for database in (*_databases.values(), *_logs.values()):
        await database.close()


def rows(values: Any) -> str:
    """Structs or dicts as one JSON text for `json_to_recordset($1::json)`: one parameter, columns of any type."""
    return _json.encode(values).decode()
