"""What one operation may use: who asks, when, and the database in the asker's scope."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from api.graphql.lists import Asked, F, Order
from api.graphql.loaders import Loaders
from api.process import Process
from domain.access.principal import Principal


@dataclass
class Context:
    """Reads of an operation share one transaction, one statement at a time; a failed one ends it.

    `now` is the same for every field of a result. Call `renew` between results, so that no
    connection is held while nothing is done and nothing is answered from an older reading.
    """

    process: Process
    principal: Principal
    request_id: str
    connection_params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._begin()

    def _begin(self) -> None:
        self._session: AsyncSession | None = None
        self.now = datetime.now(UTC)
        self.loaders = Loaders(self)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """The operation's read-only session; nobody else uses it meanwhile."""
        async with self._lock:
            if self._session is None:
                reading = self.process.db.read(self.principal.scope)
                self._session = await self._stack.enter_async_context(reading)
            try:
                yield self._session
            except BaseException as error:
                await self._end(error)
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """One transaction for one mutation; what is selected of its result is read after the commit."""
        await self.renew()
        async with self.process.db.transaction(self.principal.scope) as session:
            yield session

    async def renew(self) -> None:
        async with self._lock:
            await self._end()
            self._begin()

    async def close(self) -> None:
        async with self._lock:
            await self._end()

    async def _end(self, error: BaseException | None = None) -> None:
        self._session = None
        trace = error.__traceback__ if error else None
        await self._stack.__aexit__(type(error) if error else None, error, trace)

    def asked(self, filter: F | None = None, order: Order | None = None) -> Asked[F, Order]:
        """How the lists of this asker begin."""
        return Asked(self.principal.kind, self.now, filter, order)

    def fresh(self) -> "Context":
        """The same asker's next operation, on a socket that carries many."""
        return Context(self.process, self.principal, self.request_id)


Info: TypeAlias = strawberry.Info[Context, None]
