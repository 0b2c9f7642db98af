"""How loaders read: one statement for all keys of a batch, of what the principal may see."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from api.graphql.lists import Asked
from api.graphql.paging import Listing
from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.core import paging
from domain.core.model import Base
from domain.core.paging import Page, Slice

if TYPE_CHECKING:
    from api.graphql.context import Context

M = TypeVar("M", bound=Base)
V = TypeVar("V")
Statement = Select[*tuple[Any, ...]]
Visible = Callable[[PrincipalKind], ColumnElement[bool]]


@dataclass(frozen=True)
class Ask:
    """A page of one parent's list. Asks that differ only in the parent are answered together."""

    parent: UUID
    page: Page
    filter: Any = field(default=None, compare=False)
    order: Any = field(default=None, compare=False)
    narrowed: str = field(default="", init=False)

    def __post_init__(self) -> None:
        # Inputs cannot be keys of a dict, but have a text that tells them apart.
        object.__setattr__(self, "narrowed", repr((self.filter, self.order)))

    @property
    def alike(self) -> tuple[Page, str]:
        return self.page, self.narrowed


class Batches:
    """Makes loaders for one operation. A key that is not found gives None, an empty list or page, or 0."""

    def __init__(self, context: "Context") -> None:
        self._context = context

    def _rows(self, model: type[M], visible: Visible) -> DataLoader[UUID, M | None]:
        key: Any = model.__table__.c["id"]
        return self._one_each(select(key, model), key, visible)

    def _one_each(self, statement: Statement, key: Any, visible: Visible) -> DataLoader[UUID, Any]:
        """For a statement of pairs: the key and what it stands for."""

        async def load(keys: list[UUID]) -> list[Any]:
            rows = await self._all(statement, key, keys, visible)
            found = {row[0]: row[1] for row in rows}
            return [found.get(one) for one in keys]

        return DataLoader(load_fn=load)

    def _grouped(self, statement: Statement, key: Any, visible: Visible) -> DataLoader[UUID, Any]:
        """For a statement of the key and aggregates: the whole row."""

        async def load(keys: list[UUID]) -> list[Any]:
            rows = await self._all(statement.group_by(key), key, keys, visible)
            found = {row[0]: row for row in rows}
            return [found.get(one) for one in keys]

        return DataLoader(load_fn=load)

    def _counts(self, key: Any, visible: Visible) -> DataLoader[UUID, int]:
        async def load(keys: list[UUID]) -> list[int]:
            rows = await self._all(select(key, func.count()).group_by(key), key, keys, visible)
            found = {row[0]: row[1] for row in rows}
            return [found.get(one, 0) for one in keys]

        return DataLoader(load_fn=load)

    async def _all(self, statement: Statement, key: Any, keys: list[UUID], visible: Visible) -> Sequence[Any]:
        principal = self._context.principal
        narrowed = statement.where(key.in_(keys), visible(principal.kind))
        async with self._context.read() as session:
            return (await session.execute(narrowed, principal.binds())).all()

    def _each(
        self, find: Callable[[AsyncSession, Sequence[UUID], Principal], Awaitable[Mapping[UUID, V]]]
    ) -> DataLoader[UUID, V]:
        """For a query of the domain that answers for many keys at once."""

        async def load(keys: list[UUID]) -> list[V]:
            async with self._context.read() as session:
                found = await find(session, keys, self._context.principal)
            return [found[one] for one in keys]

        return DataLoader(load_fn=load)

    def _pages(self, listing: Callable[[Asked[Any, Any]], Listing[Any]]) -> DataLoader[Ask, Slice[Any]]:
        """Pages of lists with a parent, one statement for all that differ in nothing else."""

        async def load(asks: list[Ask]) -> list[Slice[Any]]:
            found: dict[Ask, Slice[Any]] = {}
            for alike in {ask.alike: ask for ask in asks}:
                found |= await self._page_of_each([ask for ask in asks if ask.alike == alike], listing)
            return [found[ask] for ask in asks]

        return DataLoader(load_fn=load)

    async def _page_of_each(
        self, asks: list[Ask], listing: Callable[[Asked[Any, Any]], Listing[Any]]
    ) -> dict[Ask, Slice[Any]]:
        principal, first = self._context.principal, asks[0]
        listed = listing(Asked(principal.kind, self._context.now, first.filter, first.order))
        assert listed.parent is not None, "only lists with a parent are loaded for many"
        async with self._context.read() as session:
            pages = await paging.fetch_each(
                session,
                listed.statement,
                first.page,
                parent=listed.parent,
                parents=[ask.parent for ask in asks],
                keys=listed.keys,
                descending=listed.descending,
                binds=principal.binds(),
            )
        return {ask: pages[ask.parent] for ask in asks}
