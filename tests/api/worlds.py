"""A small platform with something of every kind in it, and a document that asks for it all."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from domain.anomalies.episodes import Phase
from domain.anomalies.models import Anomaly, Watch
from domain.catalog.models import Account, Partner, Service
from domain.core.db import Database
from domain.core.ids import uuid7
from domain.forecasts.models import Forecast, Job, JobKind, JobStatus
from domain.incidents import feed
from domain.incidents import service as incidents
from domain.incidents.models import Actor, ActorKind, Incident, IncidentUpdate
from domain.incidents.reach import IncidentImpact
from domain.insights.models import Insight
from domain.telemetry.models import Series
from tests import make
from tests.make import NOON

DETECTOR = Actor(ActorKind.DETECTOR, "detector")

EVERYTHING = Path(__file__).with_name("everything.graphql").read_text()
"""A document that asks for something of every kind."""
EVENT = EVERYTHING[EVERYTHING.index("fragment Event ") :]
"""The fragment `Event` alone: all that an item of the feed has."""


@dataclass
class Tenant:
    """An account with its series, insight, forecast, anomaly and an incident of its own."""

    account: Account
    series: Series
    insight: Insight
    forecast: Forecast
    job: Job
    anomaly: Anomaly
    incident: Incident

    @property
    def rows(self) -> dict[str, UUID]:
        return {type(row).__name__: row.id for row in vars(self).values()}


@dataclass
class World:
    """A platform: its service, a partner, and one incident that is about both."""

    db: Database
    service: Service
    partner: Partner
    incident: Incident
    update: IncidentUpdate
    tenants: list[Tenant] = field(default_factory=list)

    @classmethod
    async def begin(cls, worker_db: Database) -> "World":
        service = await make.service(worker_db)
        partner = await make.partner(worker_db)
        incident = await make.incident(worker_db, services=[service], partners=[partner])
        change = {"id": str(partner.id), "from": "OPERATIONAL", "to": "PARTIAL_OUTAGE"}
        update = await make.update(worker_db, incident, affected_components=[change])
        async with worker_db.transaction() as session:
            await feed.record(session, incident, "incident.opened", actor=DETECTOR, at=NOON, update=update)
        world = cls(worker_db, service, partner, incident, update)
        await world.publish()
        return world

    async def publish(self) -> None:
        """Everything that was recorded is told to those who may hear of it."""
        async with self.db.transaction() as session:
            while await feed.publish(session, limit=100, at=NOON):
                pass

    async def settle(self, name: str, *, money: int) -> Tenant:
        """A merchant whom the incident reaches, with trouble of its own; `money` is in all figures."""
        account = await make.account(self.db, name=f"{name} Ltd", external_id=f"external-{name}")
        await make.dependency(self.db, account, self.partner, traffic_share=0.6)
        await make.dependency(self.db, account, self.service, traffic_share=1.0)
        series = await make.series(self.db, account, "authorization_rate", issuer=f"Bank of {name}")
        counted = await make.series(
            self.db, account, outcome="approved", issuer=f"Bank of {name}", is_measured=True
        )
        await make.hours(self.db, counted, money, money + 1, from_=NOON)
        own = await make.incident(self.db, title=f"{name} declines", grouping_key=f"account:{account.id}:X")
        tenant = Tenant(
            account=account,
            series=series,
            insight=await make.insight(
                self.db,
                account,
                title=f"{name} loses payments",
                incident_id=self.incident.id,
                partner_id=self.partner.id,
                impact_low=money,
                impact_mid=money + 1,
                impact_high=money + 2,
                evidence=[_evidence(f"{name} had {money}", series)],
                recommended_actions=[_action(name)],
            ),
            forecast=_forecast(series, money),
            job=_job(series),
            anomaly=await make.anomaly(self.db, series, own, observed=money / 7),
            incident=own,
        )
        async with self.db.transaction() as session:
            session.add_all([tenant.forecast, tenant.job, _watch(series)])
            reached = IncidentImpact(account.currency, f"{name} is hit", 0.6, money, money + 1, money + 2)
            await incidents.reach(session, self.incident.id, account.id, reached, at=NOON, actor=DETECTOR)
            await incidents.reach(session, own.id, account.id, reached, at=NOON, actor=DETECTOR)
            await incidents.acknowledge(session, own.id, actor=DETECTOR, at=NOON)
        await self.publish()
        self.tenants.append(tenant)
        return tenant


def _evidence(sentence: str, series: Series) -> dict[str, object]:
    until = NOON + timedelta(hours=1)
    return {
        "sentence": sentence,
        "series_id": str(series.id),
        "from": NOON.isoformat(),
        "until": until.isoformat(),
        "observed": 0.6,
        "expected": 0.8,
        "lower": 0.7,
        "upper": 0.9,
        "sample_size": 100,
    }


def _action(name: str) -> dict[str, object]:
    return {
        "key": "route",
        "title": f"Route around it, {name}",
        "steps": ["One.", "Two."],
        "documentation_links": [{"label": "How", "url": "https://example.com/how"}],
        "effort": "LOW",
    }


def _forecast(series: Series, value: float) -> Forecast:
    bands = {
        name: [float(value)] * 24
        for name in ("yhat_lower95", "yhat_lower80", "yhat", "yhat_upper80", "yhat_upper95")
    }
    return Forecast(
        id=uuid7(),
        account_id=series.account_id,
        series_id=series.id,
        model="prophet",
        fitted_at=NOON,
        trained_from=NOON - timedelta(days=28),
        trained_until=NOON,
        start=NOON,
        remarks=[],
        settings={},
        **bands,
    )


def _job(series: Series) -> Job:
    return Job(
        id=uuid7(),
        account_id=series.account_id,
        series_id=series.id,
        kind=JobKind.FORECAST,
        status=JobStatus.SUCCEEDED,
        requested_by="planner",
        trained_until=NOON,
        horizon_hours=24,
        created_at=NOON,
        finished_at=NOON,
    )


def _watch(series: Series) -> Watch:
    return Watch(
        account_id=series.account_id,
        series_id=series.id,
        phase=Phase.LEARNING,
        since=NOON,
        remark="One day of history.",
    )
