"""Connections over keyset pages, and what a list is: its rows, its order, its parent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import strawberry
from sqlalchemy import Select, SQLColumnExpression

from domain.core import paging
from domain.core.paging import Page, Slice

if TYPE_CHECKING:
    from api.graphql.context import Info

T = TypeVar("T")
Row = TypeVar("Row")


class EdgeRow(NamedTuple):
    cursor: str
    node: Any


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(name="Edge", description="An item of a list and its cursor.")
class Edge(Generic[T]):
    cursor: str
    node: T


def page_info(page: Slice[Any]) -> PageInfo:
    cursors = page.cursors
    return PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


@strawberry.type(name="Connection", description="A page of a list.")
class Connection(Generic[T]):
    @strawberry.field
    def edges(root: strawberry.Parent[Slice[Any]]) -> list[Edge[T]]:
        return [EdgeRow(*pair) for pair in zip(root.cursors, root.rows, strict=True)]  # type: ignore[misc]  # rows

    @strawberry.field
    def page_info(root: strawberry.Parent[Slice[Any]]) -> PageInfo:
        return page_info(root)


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """A list: its rows, and the keys that order them (the last is unique), all in one direction.

    `parent` is the column that tells whose list a row stands in, where there is a list for each of many.
    """

    statement: Select[Row]
    keys: Sequence[SQLColumnExpression[Any]]
    descending: bool = False
    parent: SQLColumnExpression[UUID] | SQLColumnExpression[UUID | None] | None = None


async def page_of(info: "Info", listing: Listing[Row], page: Page) -> Slice[Row]:
    """One page of a list that has no parent."""
    async with info.context.read() as session:
        return await paging.fetch(
            session,
            listing.statement,
            page,
            keys=listing.keys,
            descending=listing.descending,
            binds=info.context.principal.binds(),
        )
