"""The lists that are published: their rows (of what the principal may see), their orders, their filters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import SQLColumnExpression, case, func, select
from sqlalchemy.orm import aliased

from api.graphql import conditions, filters
from api.graphql.paging import Listing
from domain.access.models import PrincipalKind
from domain.anomalies import queries as anomalies
from domain.anomalies.models import Anomaly
from domain.catalog import queries as catalog
from domain.catalog.models import Account, Dependency, Partner, Service
from domain.incidents import queries as incidents
from domain.incidents.models import (
    Impact,
    Incident,
    IncidentAccount,
    IncidentPartner,
    IncidentService,
    IncidentUpdate,
)
from domain.insights import queries as insights
from domain.insights.models import Insight
from domain.telemetry import queries as telemetry
from domain.telemetry.models import Series

F = TypeVar("F")
Order = TypeVar("Order")
_IMPACTS = (Impact.NONE, Impact.MAINTENANCE, Impact.MINOR, Impact.MAJOR, Impact.CRITICAL)


@dataclass(frozen=True)
class Asked(Generic[F, Order]):
    """What kind of principal asks for a list, when, and in which filter and order."""

    kind: PrincipalKind
    now: datetime
    filter: F | None = None
    order: Order | None = None


def accounts(asked: Asked[filters.AccountFilter, filters.AccountOrder]) -> Listing[Account]:
    order = asked.order or filters.AccountOrder()
    by_name = order.field is filters.AccountOrderField.NAME
    first: SQLColumnExpression[Any] = Account.name if by_name else Account.created_at
    return Listing(
        select(Account).where(catalog.visible_accounts(asked.kind), *conditions.of_accounts(asked.filter)),
        keys=(first, Account.id),
        descending=_descends(order.direction),
    )


def children_by_account(asked: Asked[None, None]) -> Listing[Account]:
    return Listing(
        select(Account).where(catalog.visible_accounts(asked.kind)),
        keys=(Account.name, Account.id),
        parent=Account.parent_id,
    )


def services(asked: Asked[filters.ComponentFilter, None]) -> Listing[Service]:
    of_filter = conditions.of_components(Service, asked.filter)
    return Listing(
        select(Service).where(catalog.visible_services(asked.kind), *of_filter),
        keys=(func.coalesce(Service.group, ""), Service.name, Service.id),
    )


def partners(asked: Asked[filters.ComponentFilter, None]) -> Listing[Partner]:
    of_filter = conditions.of_components(Partner, asked.filter)
    return Listing(
        select(Partner).where(catalog.visible_partners(asked.kind), *of_filter),
        keys=(Partner.name, Partner.id),
    )


def dependencies_by_account(asked: Asked[None, None]) -> Listing[Dependency]:
    return Listing(
        select(Dependency).where(catalog.visible_dependencies(asked.kind)),
        keys=(Dependency.traffic_share, Dependency.id),
        descending=True,
        parent=Dependency.account_id,
    )


def series(asked: Asked[filters.SeriesFilter, None]) -> Listing[Series]:
    return Listing(
        select(Series).where(telemetry.visible(asked.kind), *conditions.of_series(asked.filter)),
        keys=(Series.metric, Series.id),
        parent=Series.account_id,
    )


def anomalies_by_series(asked: Asked[filters.TimeRange, None]) -> Listing[Anomaly]:
    during = asked.filter.bounds(asked.now) if asked.filter else None
    overlapping = conditions.overlaps(Anomaly.started_at, Anomaly.ended_at, during)
    return Listing(
        select(Anomaly).where(anomalies.visible(asked.kind), *overlapping),
        keys=(Anomaly.started_at, Anomaly.id),
        descending=True,
        parent=Anomaly.series_id,
    )


def anomalies_by_incident(asked: Asked[None, None]) -> Listing[Anomaly]:
    return Listing(
        select(Anomaly).where(anomalies.visible(asked.kind)),
        keys=(Anomaly.score, Anomaly.id),
        descending=True,
        parent=Anomaly.incident_id,
    )


def all_incidents(asked: Asked[filters.IncidentFilter, filters.IncidentOrder]) -> Listing[Incident]:
    order = asked.order or filters.IncidentOrder()
    wanted = asked.filter.wanted(asked.now) if asked.filter else incidents.IncidentFilter()
    fields: dict[filters.IncidentOrderField, SQLColumnExpression[Any]] = {
        filters.IncidentOrderField.STARTED_AT: Incident.started_at,
        filters.IncidentOrderField.UPDATED_AT: Incident.updated_at,
        filters.IncidentOrderField.IMPACT: case(
            {impact: place for place, impact in enumerate(_IMPACTS)}, value=Incident.impact
        ),
    }
    return Listing(
        select(Incident).where(incidents.visible(asked.kind), *wanted.conditions(asked.kind)),
        keys=(fields[order.field], Incident.id),
        descending=_descends(order.direction),
    )


def incidents_by_account(asked: Asked[filters.IncidentFilter, filters.IncidentOrder]) -> Listing[Incident]:
    link = aliased(IncidentAccount)
    return _linked(all_incidents(asked), link, link.incident_id, parent=link.account_id)


def incidents_by_service(asked: Asked[filters.IncidentFilter, filters.IncidentOrder]) -> Listing[Incident]:
    link = aliased(IncidentService)
    return _linked(all_incidents(asked), link, link.incident_id, parent=link.service_id)


def incidents_by_partner(asked: Asked[filters.IncidentFilter, filters.IncidentOrder]) -> Listing[Incident]:
    link = aliased(IncidentPartner)
    return _linked(all_incidents(asked), link, link.incident_id, parent=link.partner_id)


def updates_by_incident(asked: Asked[None, None]) -> Listing[IncidentUpdate]:
    return Listing(
        select(IncidentUpdate).where(incidents.visible_updates(asked.kind)),
        keys=(IncidentUpdate.display_at, IncidentUpdate.id),
        parent=IncidentUpdate.incident_id,
    )


def accounts_by_incident(asked: Asked[None, None]) -> Listing[IncidentAccount]:
    """Largest share of traffic first: amounts are in many currencies, and cannot be compared."""
    return Listing(
        select(IncidentAccount).where(incidents.visible_incident_accounts(asked.kind)),
        keys=(func.coalesce(IncidentAccount.traffic_share, 0.0), IncidentAccount.account_id),
        descending=True,
        parent=IncidentAccount.incident_id,
    )


def all_insights(asked: Asked[filters.InsightFilter, filters.InsightOrder]) -> Listing[Insight]:
    order = asked.order or filters.InsightOrder()
    wanted = asked.filter.wanted(asked.now) if asked.filter else insights.InsightFilter()
    by_rank = order.field is filters.InsightOrderField.RANK
    first: SQLColumnExpression[Any] = Insight.rank if by_rank else Insight.created_at
    return Listing(
        select(Insight).where(insights.visible(asked.kind), *wanted.conditions()),
        keys=(first, Insight.id),
        descending=_descends(order.direction),
        parent=Insight.account_id,
    )


def insights_by_incident(asked: Asked[filters.InsightFilter, filters.InsightOrder]) -> Listing[Insight]:
    listing = all_insights(asked)
    return Listing(listing.statement, listing.keys, listing.descending, parent=Insight.incident_id)


def _linked(
    listing: Listing[Incident],
    link: Any,
    incident_id: SQLColumnExpression[UUID],
    *,
    parent: SQLColumnExpression[UUID],
) -> Listing[Incident]:
    # Under an alias: predicates ask the same tables, and would take the joined row for theirs.
    statement = listing.statement.join(link, incident_id == Incident.id)
    return Listing(statement, listing.keys, listing.descending, parent=parent)


def _descends(direction: filters.OrderDirection) -> bool:
    return direction is filters.OrderDirection.DESC
