"""The database: one engine a process, connections in one role, transactions in one tenant's scope."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

# A session whose process was cut off from it holds its locks no longer than this; tasks end before.
_SETTINGS = (
    "set_config('vitals.scope', :scope, true), set_config('idle_in_transaction_session_timeout', '70s', true)"
)
_ENTER = text(f"SELECT {_SETTINGS}")
_ENTER_READ_ONLY = text(f"SELECT {_SETTINGS}, set_config('transaction_read_only', 'on', true)")
# States of connections lost, transactions that lost a race, and servers that start or stop.
_PASSING = ("08", "40", "57P")


def asyncpg_url(url: str) -> URL:
    """Any `postgres://` address as SQLAlchemy's asyncpg dialect takes it (`sslmode` is `ssl` there)."""
    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    query = dict(parsed.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return parsed.set(query=query)


def connect_args(url: str, role: str) -> dict[str, Any]:
    """Connections act in `role`: by logging in as it, or else by SET ROLE as they start."""
    settings = {"timezone": "UTC", "application_name": "vitals"}
    if make_url(url).username != role:
        settings["role"] = role
    return {"server_settings": settings}


class Database:
    """Connections to one Postgres in one role. It belongs to the event loop that first uses it."""

    def __init__(self, url: str, role: str, *, pool_size: int = 5) -> None:
        self.url, self.role = url, role
        self.engine = create_async_engine(
            asyncpg_url(url),
            connect_args=connect_args(url, role),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, scope: str = "") -> AsyncIterator[AsyncSession]:
        """One transaction in `scope` (`account:<uuid>`; "" sees nobody's rows); commits unless it raises."""
        async with self._sessions() as session, session.begin():
            await session.execute(_ENTER, {"scope": scope})
            yield session

    @asynccontextmanager
    async def read(self, scope: str = "") -> AsyncIterator[AsyncSession]:
        """The same for reading only."""
        async with self._sessions() as session, session.begin():
            await session.execute(_ENTER_READ_ONLY, {"scope": scope})
            yield session

    async def dispose(self) -> None:
        await self.engine.dispose()


def will_pass(error: Exception) -> bool:
    """Whether it is of a database that is away or of a race, so that the same may do when begun again."""
    if isinstance(error, OSError):
        return not isinstance(error, TimeoutError)
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_PASSING)


async def raw(session: AsyncSession) -> asyncpg.Connection:
    """The asyncpg connection under `session`, in the same transaction: for COPY and LISTEN."""
    connection = await (await session.connection()).get_raw_connection()
    return connection.driver_connection


async def listen(url: str, role: str) -> asyncpg.Connection:
    """A connection of its own for LISTEN (not through pgbouncer)."""
    parsed = asyncpg_url(url)
    args, options = parsed.get_dialect()().create_connect_args(parsed)
    options.pop("prepared_statement_cache_size", None)
    return await asyncpg.connect(*args, **options, **connect_args(url, role))
