"""Applies a catalogue: all of it or nothing, as often as one likes. What it does not name stays as it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access import service as access
from domain.catalog import entries, queries, tree
from domain.catalog.entries import (
    AccountEntry,
    Catalogue,
    CatalogueRejected,
    DependencyEntry,
    Entry,
    PartnerEntry,
    Problem,
    ServiceEntry,
)
from domain.catalog.models import Account, ComponentStatus, Dependency, Partner, Service
from domain.core.ids import uuid7
from domain.core.model import Base

Row = TypeVar("Row", bound=Base)
Component = TypeVar("Component", Service, Partner)


class Outcome(StrEnum):
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True)
class Change:
    """What became of one entry; `fields` are those that an update changed."""

    kind: str
    key: str
    outcome: Outcome
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Standing:
    """What there is of all that a catalogue names; new rows are added. `parents` are as they will be."""

    accounts: dict[str, Account]
    services: dict[str, Service]
    partners: dict[str, Partner]
    dependencies: dict[tuple[UUID, UUID | None, UUID | None], Dependency]
    parents: Mapping[str, str | None]


async def apply(
    session: AsyncSession, catalogue: Catalogue, *, by: str, at: datetime, request_id: str = ""
) -> list[Change]:
    """Create what is new and update what differs, by external id and code; statuses are not touched.

    The session is in the operator's scope. One at a time: another waits. Raises CatalogueRejected
    with all that is wrong, before anything is changed.
    """
    _require_none(entries.problems(catalogue))
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext("catalog"))))
    standing = await _standing(session, catalogue)
    _require_none([*_dangling(catalogue, standing), *_cycles(catalogue, standing.parents)])
    changes = [
        *await _put_accounts(session, catalogue.accounts, standing, at=at),
        *_put_components(session, Service, catalogue.services, standing.services, at=at),
        *_put_components(session, Partner, catalogue.partners, standing.partners, at=at),
    ]
    await session.flush()
    changes += _put_dependencies(session, catalogue.dependencies, standing)
    await session.flush()
    await access.audit(session, "catalog.applied", by=by, at=at, request_id=request_id)
    return changes


def _require_none(problems: Iterable[Problem]) -> None:
    if found := list(problems):
        raise CatalogueRejected(found)


async def _standing(session: AsyncSession, catalogue: Catalogue) -> _Standing:
    named = {name for entry in catalogue.accounts for name in (entry.external_id, entry.parent) if name}
    named |= {entry.account for entry in catalogue.dependencies}
    services = {entry.code for entry in catalogue.services}
    services |= {entry.service for entry in catalogue.dependencies if entry.service}
    partners = {entry.code for entry in catalogue.partners}
    partners |= {entry.partner for entry in catalogue.dependencies if entry.partner}
    accounts = await queries.accounts_by_external_id(session, list(named))
    return _Standing(
        accounts=accounts,
        services=await queries.services_by_code(session, list(services)),
        partners=await queries.partners_by_code(session, list(partners)),
        dependencies=await queries.dependencies_of(session, [row.id for row in accounts.values()]),
        parents=await queries.parents(session)
        | {entry.external_id: entry.parent for entry in catalogue.accounts},
    )


def _dangling(catalogue: Catalogue, standing: _Standing) -> Iterator[Problem]:
    """References to what is neither there nor in the catalogue."""
    accounts = standing.accounts.keys() | {entry.external_id for entry in catalogue.accounts}
    services = standing.services.keys() | {entry.code for entry in catalogue.services}
    partners = standing.partners.keys() | {entry.code for entry in catalogue.partners}
    known = {"parent": accounts, "account": accounts, "service": services, "partner": partners}
    for path, entry in catalogue.entries():
        for name in [name for name in entries.field_names(type(entry)) if name in known]:
            reference = getattr(entry, name)
            if reference is not None and reference not in known[name]:
                message = f"names {reference}, which is neither there nor in this catalogue"
                yield Problem((*path, name), message, catalogue.places.get(path, ""))


def _cycles(catalogue: Catalogue, parents: Mapping[str, str | None]) -> Iterator[Problem]:
    for path, entry in catalogue.entries():
        if isinstance(entry, AccountEntry):
            line = tree.lineage(entry.external_id, parents)
            if len(line) > 1 and line[-1] == entry.external_id:
                message = f"puts the account below itself: {' below '.join(line)}"
                yield Problem((*path, "parent"), message, catalogue.places.get(path, ""))


async def _put_accounts(
    session: AsyncSession, accounts: Sequence[AccountEntry], standing: _Standing, *, at: datetime
) -> list[Change]:
    """New ones first, parents before children, since one that is known may move below one that is new."""
    known = [entry for entry in accounts if entry.external_id in standing.accounts]
    new = [entry for entry in accounts if entry.external_id not in standing.accounts]
    new.sort(key=lambda entry: len(tree.lineage(entry.external_id, standing.parents)))
    changes: list[Change] = []
    for entry in [*new, *known]:
        values = _columns(entry)
        parent = values.pop("parent")
        values["parent_id"] = standing.accounts[parent].id if parent else None
        row = standing.accounts.get(entry.external_id)
        standing.accounts[entry.external_id], change = _put(
            session, Account, entry, row=row, values=values, new={"created_at": at}
        )
        changes.append(change)
        if len(changes) == len(new):
            await session.flush()
    await session.flush()
    moved = [one for one in changes if one.outcome is Outcome.CREATED or "parent" in one.fields]
    await tree.regrow(session, [standing.accounts[one.key].id for one in moved])
    return changes


def _put_components(
    session: AsyncSession,
    model: type[Component],
    named: Sequence[ServiceEntry | PartnerEntry],
    rows: dict[str, Component],
    *,
    at: datetime,
) -> Iterator[Change]:
    for entry in named:
        rows[entry.code], change = _put(
            session,
            model,
            entry,
            row=rows.get(entry.code),
            values=_columns(entry),
            new={"status": ComponentStatus.OPERATIONAL, "status_since": at, "created_at": at},
        )
        yield change


def _put_dependencies(
    session: AsyncSession, dependencies: Sequence[DependencyEntry], standing: _Standing
) -> Iterator[Change]:
    """A share that is not given is the one that is known, or all of the traffic."""
    for entry in dependencies:
        account_id = standing.accounts[entry.account].id
        service_id = standing.services[entry.service].id if entry.service else None
        partner_id = standing.partners[entry.partner].id if entry.partner else None
        ends = {"account_id": account_id, "service_id": service_id, "partner_id": partner_id}
        _, change = _put(
            session,
            Dependency,
            entry,
            row=standing.dependencies.get((account_id, service_id, partner_id)),
            values={} if entry.traffic_share is None else {"traffic_share": entry.traffic_share},
            new={"traffic_share": 1.0} | ends,
        )
        yield change


def _put(
    session: AsyncSession,
    model: type[Row],
    entry: Entry,
    *,
    row: Row | None,
    values: dict[str, Any],
    new: dict[str, Any],
) -> tuple[Row, Change]:
    """Give `row` the values, or make it with those and what only a `new` one gets."""
    kind = model.__tablename__
    if row is None:
        row = model(id=uuid7(), **new | values)
        session.add(row)
        return row, Change(kind, entry.key, Outcome.CREATED)
    changed = tuple(name for name, value in values.items() if getattr(row, name) != value)
    for name in changed:
        setattr(row, name, values[name])
    # The entry's field is `parent`, the column `parent_id`; a row's own key never changes.
    told = tuple(name.removesuffix("_id") for name in changed)
    return row, Change(kind, entry.key, Outcome.UPDATED if changed else Outcome.UNCHANGED, told)


def _columns(entry: Entry) -> dict[str, Any]:
    """An entry's values by the names of the columns, which are those of its fields."""
    values = {name: getattr(entry, name) for name in entries.field_names(type(entry))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
