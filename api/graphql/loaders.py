"""The loaders of one operation: what many objects of a result ask for is read in one statement."""

from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from strawberry.dataloader import DataLoader

from api.graphql import lists
from api.graphql.batching import Ask
from api.graphql.series_loaders import SeriesLoaders
from domain.access.models import PrincipalKind
from domain.anomalies import queries as anomalies
from domain.anomalies.models import Anomaly, Watch
from domain.catalog import queries as catalog
from domain.catalog.models import Account, Dependency, Partner, Service
from domain.core.paging import Slice
from domain.delivery import queries as delivery
from domain.delivery.queries import Told
from domain.forecasts import queries as forecasts
from domain.forecasts.models import Forecast, Job
from domain.incidents import queries as incidents
from domain.incidents.models import Incident, IncidentAccount, IncidentUpdate
from domain.insights import queries as insights
from domain.insights.models import Insight
from domain.telemetry import queries as telemetry
from domain.telemetry import tickets
from domain.telemetry.models import Series, Watermark


class Loaders(SeriesLoaders):
    """Each is made at its first use, and remembers what it loaded for as long as the operation lasts."""

    @cached_property
    def accounts(self) -> DataLoader[UUID, Account | None]:
        return self._rows(Account, catalog.visible_accounts)

    @cached_property
    def services(self) -> DataLoader[UUID, Service | None]:
        return self._rows(Service, catalog.visible_services)

    @cached_property
    def partners(self) -> DataLoader[UUID, Partner | None]:
        return self._rows(Partner, catalog.visible_partners)

    @cached_property
    def series(self) -> DataLoader[UUID, Series | None]:
        return self._rows(Series, telemetry.visible)

    @cached_property
    def forecasts(self) -> DataLoader[UUID, Forecast | None]:
        return self._rows(Forecast, forecasts.visible)

    @cached_property
    def jobs(self) -> DataLoader[UUID, Job | None]:
        return self._rows(Job, forecasts.visible_jobs)

    @cached_property
    def anomalies(self) -> DataLoader[UUID, Anomaly | None]:
        return self._rows(Anomaly, anomalies.visible)

    @cached_property
    def incidents(self) -> DataLoader[UUID, Incident | None]:
        return self._rows(Incident, incidents.visible)

    @cached_property
    def updates(self) -> DataLoader[UUID, IncidentUpdate | None]:
        return self._rows(IncidentUpdate, incidents.visible_updates)

    @cached_property
    def insights(self) -> DataLoader[UUID, Insight | None]:
        return self._rows(Insight, insights.visible)

    @cached_property
    def changes(self) -> DataLoader[UUID, Told | None]:
        """Events of the principal's own stream."""

        async def load(keys: list[UUID]) -> list[Told | None]:
            async with self._context.read() as session:
                found = await delivery.by_event(session, self._context.principal.stream, keys)
            return [found.get(one) for one in keys]

        return DataLoader(load_fn=load)

    @cached_property
    def latest_sequences(self) -> DataLoader[str, int]:
        """The last sequence of a stream; a principal sees its own alone."""

        async def load(keys: list[str]) -> list[int]:
            async with self._context.read() as session:
                return [await delivery.latest_sequence(session, one) for one in keys]

        return DataLoader(load_fn=load)

    @cached_property
    def children_by_account(self) -> DataLoader[Ask, Slice[Account]]:
        return self._pages(lists.children_by_account)

    @cached_property
    def dependencies_by_account(self) -> DataLoader[Ask, Slice[Dependency]]:
        return self._pages(lists.dependencies_by_account)

    @cached_property
    def dependency_counts(self) -> DataLoader[UUID, int]:
        return self._counts(Dependency.account_id, catalog.visible_dependencies)

    @cached_property
    def series_by_account(self) -> DataLoader[Ask, Slice[Series]]:
        return self._pages(lists.series)

    @cached_property
    def anomalies_by_series(self) -> DataLoader[Ask, Slice[Anomaly]]:
        return self._pages(lists.anomalies_by_series)

    @cached_property
    def anomalies_by_incident(self) -> DataLoader[Ask, Slice[Anomaly]]:
        return self._pages(lists.anomalies_by_incident)

    @cached_property
    def incidents_by_account(self) -> DataLoader[Ask, Slice[Incident]]:
        return self._pages(lists.incidents_by_account)

    @cached_property
    def incidents_by_service(self) -> DataLoader[Ask, Slice[Incident]]:
        return self._pages(lists.incidents_by_service)

    @cached_property
    def incidents_by_partner(self) -> DataLoader[Ask, Slice[Incident]]:
        return self._pages(lists.incidents_by_partner)

    @cached_property
    def updates_by_incident(self) -> DataLoader[Ask, Slice[IncidentUpdate]]:
        return self._pages(lists.updates_by_incident)

    @cached_property
    def accounts_by_incident(self) -> DataLoader[Ask, Slice[IncidentAccount]]:
        return self._pages(lists.accounts_by_incident)

    @cached_property
    def account_counts(self) -> DataLoader[UUID, int]:
        return self._counts(IncidentAccount.incident_id, incidents.visible_incident_accounts)

    @cached_property
    def insights_by_account(self) -> DataLoader[Ask, Slice[Insight]]:
        return self._pages(lists.all_insights)

    @cached_property
    def insights_by_incident(self) -> DataLoader[Ask, Slice[Insight]]:
        return self._pages(lists.insights_by_incident)

    @cached_property
    def services_by_incident(self) -> DataLoader[UUID, Any]:
        return self._each(
            lambda session, keys, who: incidents.services_by_incident(session, keys, principal=who)
        )

    @cached_property
    def partners_by_incident(self) -> DataLoader[UUID, Any]:
        return self._each(
            lambda session, keys, who: incidents.partners_by_incident(session, keys, principal=who)
        )

    @cached_property
    def money_by_incident(self) -> DataLoader[UUID, Any]:
        """Over the accounts that the principal sees: `low, mid, high, currency`, number of `currencies`."""
        impact = IncidentAccount
        return self._grouped(
            select(
                impact.incident_id,
                func.sum(impact.money_low).label("low"),
                func.sum(impact.money_mid).label("mid"),
                func.sum(impact.money_high).label("high"),
                func.min(impact.currency).label("currency"),
                func.count(impact.currency.distinct()).label("currencies"),
            ).where(impact.money_mid.is_not(None)),
            impact.incident_id,
            incidents.visible_incident_accounts,
        )

    @cached_property
    def newest_by_account(self) -> DataLoader[UUID, Any]:
        """The newest minute of an account, as `newest_at`."""

        def visible(kind: PrincipalKind) -> Any:
            return Watermark.account_id.in_(select(Account.id).where(catalog.visible_accounts(kind)))

        newest = func.max(Watermark.newest_at).label("newest_at")
        return self._grouped(select(Watermark.account_id, newest), Watermark.account_id, visible)

    @cached_property
    def turnover_by_account(self) -> DataLoader[UUID, int | None]:
        """Approved amounts of the week before the present hour, in minor units of the account's currency."""

        async def load(keys: list[UUID]) -> list[int | None]:
            async with self._context.read() as session:
                found = await tickets.approved_amounts(session, keys, at=self._context.now)
            return [found.get(one) for one in keys]

        return DataLoader(load_fn=load)

    @cached_property
    def watches_by_series(self) -> DataLoader[UUID, Watch | None]:
        statement = select(Watch.series_id, Watch)
        return self._one_each(statement, Watch.series_id, anomalies.visible_watches)

    @cached_property
    def forecasts_by_series(self) -> DataLoader[UUID, Forecast | None]:
        """The latest of each."""
        latest = select(Forecast.series_id, Forecast).ext(distinct_on(Forecast.series_id))
        ordered = latest.order_by(Forecast.series_id, Forecast.trained_until.desc())
        return self._one_each(ordered, Forecast.series_id, forecasts.visible)

    @cached_property
    def forecasts_by_job(self) -> DataLoader[UUID, Forecast | None]:
        """What each job computed, once it has."""
        made = (Forecast.series_id == Job.series_id) & (Forecast.trained_until == Job.trained_until)
        return self._one_each(select(Job.id, Forecast).join(Forecast, made), Job.id, forecasts.visible)
