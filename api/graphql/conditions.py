"""Filters as predicates. Ids that name nothing match nothing; predicates never widen what a list shows."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from api.graphql import filters, ids
from domain.catalog.models import Account, Partner, Service
from domain.telemetry.models import Series

Conditions = Iterator[ColumnElement[bool]]


def of_accounts(wanted: filters.AccountFilter | None) -> Conditions:
    if wanted is None:
        return
    if wanted.search is not None:
        yield or_(
            Account.name.istartswith(wanted.search, autoescape=True),
            Account.external_id.istartswith(wanted.search, autoescape=True),
        )
    yield from _any_of(Account.external_id, wanted.external_ids)
    yield from _any_of(Account.country, wanted.countries)
    if wanted.parent_id is not None:
        yield Account.parent_id.in_(ids.keys([wanted.parent_id], "Account")["Account"])


def of_components(model: type[Service] | type[Partner], wanted: filters.ComponentFilter | None) -> Conditions:
    if wanted is None:
        return
    if wanted.search is not None:
        yield or_(
            model.name.istartswith(wanted.search, autoescape=True),
            model.code.istartswith(wanted.search, autoescape=True),
        )
    yield from _any_of(model.code, wanted.codes)
    yield from _any_of(model.status, wanted.statuses)
    if issubclass(model, Partner):
        yield from _any_of(model.kind, wanted.kinds)


def of_series(wanted: filters.SeriesFilter | None) -> Conditions:
    if wanted is None:
        return
    if wanted.account_ids is not None:
        yield Series.account_id.in_(ids.keys(wanted.account_ids, "Account")["Account"])
    yield from _any_of(Series.metric, wanted.metrics)
    for matcher in wanted.labels or ():
        value = Series.labels[matcher.key].astext
        inside = func.coalesce(value.in_(matcher.values), False)
        yield inside if matcher.operator is filters.MatchOperator.IN else ~inside
    if wanted.dimensions is not None:
        keys = select(func.jsonb_object_keys(Series.labels).label("key")).correlate(Series).subquery()
        fixed = select(func.array_agg(cast(keys.c.key, Text)).label("keys")).scalar_subquery()
        wished = cast(sorted(set(wanted.dimensions)), ARRAY(Text))
        present = func.coalesce(fixed, cast([], ARRAY(Text)))
        yield and_(present.op("@>")(wished), present.op("<@")(wished))


def overlaps(
    started_at: InstrumentedAttribute[datetime],
    ended_at: InstrumentedAttribute[datetime | None],
    bounds: tuple[datetime, datetime] | None,
) -> Conditions:
    """Whether [started_at, ended_at), or what has not ended, has a part in the bounds."""
    if bounds is not None:
        yield and_(started_at < bounds[1], or_(ended_at.is_(None), ended_at > bounds[0]))


def _any_of(column: InstrumentedAttribute[Any], values: list[Any] | None) -> Conditions:
    if values is not None:
        yield column.in_(values)
