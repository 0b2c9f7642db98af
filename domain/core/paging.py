"""Keyset pages: a page begins behind the last row of the one before, by the same order, ties broken by id."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Label, Select, SQLColumnExpression, Uuid, bindparam, func, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from domain.core.errors import InvalidInput

T = TypeVar("T")
MAX_PAGE, DEFAULT_PAGE = 100, 20
_TYPES: dict[str, Callable[[Any], Any]] = {
    "t": datetime.fromisoformat,
    "u": UUID,
    "s": str,
    "i": int,
    "f": float,
}


@dataclass(frozen=True)
class Page:
    """The part of a list that is asked for: the first `size` after `cursor`, or the last before it."""

    size: int = DEFAULT_PAGE
    cursor: str | None = None
    backwards: bool = False

    @classmethod
    def of(
        cls,
        first: int | None,
        after: str | None,
        last: int | None = None,
        before: str | None = None,
    ) -> "Page":
        """Relay's arguments; `first` with `last`, or a size outside 0..100, is InvalidInput."""
        if first is not None and last is not None:
            raise InvalidInput("`first` and `last` cannot be given together.", path=("first",))
        if after is not None and before is not None:
            raise InvalidInput("`after` and `before` cannot be given together.", path=("after",))
        backwards = last is not None or (first is None and before is not None)
        if (backwards and after is not None) or (not backwards and before is not None):
            raise InvalidInput("`first` goes with `after`, `last` with `before`.", path=("after",))
        size = last if last is not None else first if first is not None else DEFAULT_PAGE
        if not 0 <= size <= MAX_PAGE:
            name = "last" if backwards else "first"
            raise InvalidInput(f"`{name}` must be from 0 to {MAX_PAGE}, not {size}.", path=(name,))
        return cls(size=size, cursor=before if backwards else after, backwards=backwards)


@dataclass(frozen=True)
class Slice(Generic[T]):
    """One page of rows, in the order of the list, with their cursors."""

    rows: Sequence[T]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


def encode(values: Sequence[Any]) -> str:
    parts = []
    for value in values:
        if isinstance(value, datetime):
            parts.append(["t", value.isoformat()])
        elif isinstance(value, UUID):
            parts.append(["u", str(value)])
        else:
            kind = "i" if isinstance(value, int) else "f" if isinstance(value, float) else "s"
            parts.append([kind, value])
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode()


def decode(cursor: str, *, width: int) -> list[Any]:
    """The values of a cursor made by `encode`; anything else is InvalidInput, whatever it is."""
    try:
        parts = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        values = [_TYPES[kind](value) for kind, value in parts]
        if any(isinstance(value, datetime) and value.tzinfo is None for value in values):
            raise ValueError("a time without an offset")
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise InvalidInput("This cursor is not one of ours.", path=("after",)) from error
    if len(values) != width:
        raise InvalidInput("This cursor belongs to another list.", path=("after",))
    return values


async def fetch(
    session: AsyncSession,
    statement: Select[T],
    page: Page,
    *,
    keys: Sequence[SQLColumnExpression[Any]],
    descending: bool = False,
    binds: dict[str, Any] | None = None,
) -> Slice[T]:
    """One page of `statement` ordered by `keys` (the last of them unique), all in one direction."""
    paged = _paged(statement, page, keys, descending).add_columns(*keys)
    found = (await session.execute(paged, binds or {})).all()
    return _slice([tuple(row) for row in found], page)


async def fetch_each(
    session: AsyncSession,
    statement: Select[T],
    page: Page,
    *,
    parent: SQLColumnExpression[UUID] | SQLColumnExpression[UUID | None],
    parents: Sequence[UUID],
    keys: Sequence[SQLColumnExpression[Any]],
    descending: bool = False,
    binds: dict[str, Any] | None = None,
) -> dict[UUID, Slice[T]]:
    """The same page of the list of each of `parents`, told apart by the column `parent`, in one statement."""
    whose = select(func.unnest(bindparam("page_parents", type_=ARRAY(Uuid))).label("id")).subquery("parents")
    labels: list[Label[Any]] = [key.label(f"key_{i}") for i, key in enumerate(keys)]
    paged = _paged(statement.where(parent == whose.c.id), page, keys, descending)
    items = paged.add_columns(*labels).lateral("items")
    entity = aliased(statement.column_descriptions[0]["entity"], items)
    columns = [items.c[label.name] for label in labels]
    joined = select(whose.c.id, entity, *columns).join_from(whose, items, true())
    ordered = joined.order_by(whose.c.id, *_order(columns, descending != page.backwards))
    found: dict[UUID, list[tuple[Any, ...]]] = {key: [] for key in parents}
    for row in await session.execute(ordered, {**(binds or {}), "page_parents": list(parents)}):
        found[row[0]].append(tuple(row)[1:])
    return {key: _slice(rows, page) for key, rows in found.items()}


def _order(keys: Sequence[SQLColumnExpression[Any]], reverse: bool) -> list[SQLColumnExpression[Any]]:
    return [key.desc() if reverse else key.asc() for key in keys]


def _paged(
    statement: Select[T], page: Page, keys: Sequence[SQLColumnExpression[Any]], descending: bool
) -> Select[T]:
    """The rows of the page and one more, which tells whether there are others behind it."""
    reverse = descending != page.backwards
    if page.cursor is not None:
        edge = tuple(decode(page.cursor, width=len(keys)))
        for key, value in zip(keys, edge, strict=True):
            if not isinstance(value, key.label(None).type.python_type):
                raise InvalidInput("This cursor belongs to another list.", path=("after",))
        row = tuple_(*keys)
        statement = statement.where(row < edge if reverse else row > edge)
    return statement.order_by(*_order(keys, reverse)).limit(page.size + 1)


def _slice(found: Sequence[tuple[Any, ...]], page: Page) -> Slice[Any]:
    """A page of rows, each followed by its keys, of which one may be too many."""
    more, kept = len(found) > page.size, list(found[: page.size])
    if page.backwards:
        kept.reverse()
    before = page.cursor is not None
    return Slice(
        rows=[row[0] for row in kept],
        cursors=[encode(row[1:]) for row in kept],
        has_next=before if page.backwards else more,
        has_previous=more if page.backwards else before,
    )
