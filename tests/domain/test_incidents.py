"""Incidents: one live one a grouping key, changes in order, components declared and let go."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import ComponentStatus, Partner, Service
from domain.core.db import Database
from domain.core.errors import InvalidInput
from domain.core.ids import uuid7
from domain.core.paging import Page
from domain.incidents import grouping, queries
from domain.incidents import service as incidents
from domain.incidents.models import (
    Actor,
    ActorKind,
    HealthKind,
    Impact,
    Incident,
    IncidentAccount,
    IncidentClosed,
    IncidentExists,
    IncidentNotFound,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Resolution,
)
from domain.incidents.queries import IncidentFilter
from domain.incidents.reach import IncidentImpact
from tests import make
from tests.make import NOON

DETECTOR = Actor(ActorKind.DETECTOR, "detector")
MINUTE = timedelta(minutes=1)


async def open_one(session: AsyncSession, key: str = "made:one", **fields: object) -> tuple[Incident, bool]:
    values = {
        "kind": HealthKind.AUTHORIZATION_RATE_DROP,
        "title": "Fewer payments are approved",
        "summary": "The rate fell.",
        "impact": Impact.MAJOR,
        "origin": Origin.DETECTED,
        "started_at": NOON,
        "actor": DETECTOR,
        "at": NOON,
    }
    return await incidents.open(session, grouping_key=key, **values | fields)  # type: ignore[arg-type]


async def lock_is_waited_for(db: Database) -> None:
    """Return once some transaction waits for another's end."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
    while True:
        async with db.read() as session:
            if await session.scalar(waiting):
                return


async def names(db: Database) -> list[str]:
    return [name for name, _ in await make.recorded_events(db)]


async def test_racing_detectors_open_one_incident_and_the_losers_go_on(worker_db: Database) -> None:
    accounts = [await make.account(worker_db) for _ in range(8)]

    async def detect(account_id: UUID) -> tuple[UUID, bool]:
        async with worker_db.transaction() as session:
            incident, created = await open_one(session, accounts={account_id: IncidentImpact("BRL")})
            return incident.id, created

    found = await asyncio.gather(*(detect(account.id) for account in accounts))

    assert len({incident_id for incident_id, _ in found}) == 1
    assert [created for _, created in found].count(True) == 1
    async with worker_db.read() as session:
        assert await session.scalar(select(func.count()).select_from(Incident)) == 1
        assert await session.scalar(select(func.count()).select_from(IncidentAccount)) == 8
    assert sorted(await names(worker_db)) == ["incident.opened"] + ["incident.reached"] * 8


async def test_when_the_winner_of_a_race_rolls_back_the_other_opens_the_incident(worker_db: Database) -> None:
    async def open_another() -> bool:
        async with worker_db.transaction() as session:
            return (await open_one(session))[1]

    async with worker_db.transaction() as session:
        await open_one(session)
        other = asyncio.create_task(open_another())
        await lock_is_waited_for(worker_db)
        await session.rollback()
    assert await other
    assert await names(worker_db) == ["incident.opened"]


async def test_a_new_incident_opens_when_the_last_of_its_key_is_resolved(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        first, _ = await open_one(session)
        await incidents.resolve(
            session, first.id, resolution=Resolution.OBSERVED, actor=DETECTOR, at=NOON + MINUTE
        )
        second, created = await open_one(session)

    assert created
    assert first.id != second.id


async def test_what_is_one_accounts_alone_has_no_partner(worker_db: Database) -> None:
    account, partner = await make.account(worker_db), await make.partner(worker_db)
    key = grouping.of_account(account.id, HealthKind.AUTHORIZATION_RATE_DROP)

    with pytest.raises(ValueError, match="alone"):
        async with worker_db.transaction() as session:
            await open_one(session, key, partners=[partner.id])

    assert await names(worker_db) == []


async def test_an_external_incident_is_known_again_after_it_was_resolved(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        first, _ = await open_one(session, external_id="page:1")
        await incidents.resolve(session, first.id, resolution=Resolution.INFERRED, actor=DETECTOR, at=NOON)
        again, created = await open_one(session, external_id="page:1")

    assert (again.id, created) == (first.id, False)
    assert again.resolution is Resolution.INFERRED


async def test_who_declares_what_is_declared_is_given_the_live_incident(
    db: Database, worker_db: Database
) -> None:
    partner = await make.partner(db)
    statuses = {partner.id: ComponentStatus.MAJOR_OUTAGE}

    async def declare(at_scope: str, actor: incidents.By) -> Incident:
        async with db.transaction(at_scope) as session:
            return await incidents.declare(
                session, title="Down", body="It is down.", impact=Impact.MAJOR, statuses=statuses,
                actor=actor, at=NOON,
            )  # fmt: skip

    first = await declare("operator", make.operator())
    with pytest.raises(IncidentExists) as refusal:
        await declare(f"partner:{partner.id}", make.of_partner(partner))

    assert isinstance(refusal.value.subject, Incident)
    assert refusal.value.subject.id == first.id
    assert await names(worker_db) == ["incident.opened"]


async def test_a_partner_declares_itself_and_nothing_else(db: Database, worker_db: Database) -> None:
    own, other = await make.partner(db), await make.partner(db)
    service = await make.service(db)
    principal = make.of_partner(own)

    async def declare(component_id: UUID) -> Incident:
        async with db.transaction(principal.scope) as session:
            return await incidents.declare(
                session, title="Down", body="It is down.", impact=Impact.MAJOR, actor=principal, at=NOON,
                statuses={component_id: ComponentStatus.PARTIAL_OUTAGE},
            )  # fmt: skip

    for component_id in (other.id, service.id, uuid7()):
        with pytest.raises(InvalidInput, match=str(component_id)):
            await declare(component_id)
    incident = await declare(own.id)

    assert incident.origin is Origin.DECLARED
    async with worker_db.read() as session:
        found = {row.id: row.status for row in await session.scalars(select(Partner))}
        assert await session.scalar(select(func.count()).select_from(Incident)) == 1
    assert found == {own.id: ComponentStatus.PARTIAL_OUTAGE, other.id: ComponentStatus.OPERATIONAL}


async def test_a_resolved_component_is_operational_unless_another_live_incident_holds_it(
    db: Database,
) -> None:
    service = await make.service(db)
    operator = make.operator()

    async def declare(key: str, status: ComponentStatus) -> UUID:
        async with db.transaction("operator") as session:
            incident = await incidents.declare(
                session, title="Slow", body="It is slow.", impact=Impact.MINOR, grouping_key=key,
                statuses={service.id: status}, actor=operator, at=NOON,
            )  # fmt: skip
            return incident.id

    async def resolve(incident_id: UUID) -> ComponentStatus:
        async with db.transaction("operator") as session:
            await incidents.resolve(
                session, incident_id, resolution=Resolution.DECLARED, actor=operator, at=NOON + MINUTE,
                body="It is over.",
            )  # fmt: skip
        async with db.read("operator") as session:
            return (await session.get_one(Service, service.id)).status

    slow = await declare("slow", ComponentStatus.DEGRADED_PERFORMANCE)
    down = await declare("down", ComponentStatus.MAJOR_OUTAGE)

    assert await resolve(down) is ComponentStatus.DEGRADED_PERFORMANCE
    assert await resolve(slow) is ComponentStatus.OPERATIONAL
    async with db.read("operator") as session:
        last = await queries.latest_update(session, slow)
    assert last is not None
    assert last.affected_components == [
        {"id": str(service.id), "from": "DEGRADED_PERFORMANCE", "to": "OPERATIONAL"}
    ]


async def test_a_final_update_resolves_and_lets_components_go(db: Database, worker_db: Database) -> None:
    service = await make.service(db)
    operator = make.operator()
    async with db.transaction("operator") as session:
        incident = await incidents.declare(
            session, title="Down", body="It is down.", impact=Impact.MAJOR, actor=operator, at=NOON,
            statuses={service.id: ComponentStatus.MAJOR_OUTAGE},
        )  # fmt: skip
        await incidents.post_update(
            session, incident.id, body="Fixed.", status=IncidentStatus.RESOLVED, actor=operator, at=NOON
        )
        await incidents.post_update(
            session, incident.id, body="Why.", status=IncidentStatus.POSTMORTEM, actor=operator, at=NOON
        )

    async with db.read("operator") as session:
        assert (await session.get_one(Service, service.id)).status is ComponentStatus.OPERATIONAL
        found = await queries.get(session, incident.id)
    assert (found.status, found.resolved_at) == (IncidentStatus.POSTMORTEM, NOON)
    assert await names(worker_db) == [
        "incident.opened",
        "incident.resolved",
        "incident.postmortem_published",
    ]


async def test_resolving_and_acknowledging_again_change_nothing(db: Database, worker_db: Database) -> None:
    incident = await make.incident(db)
    first, second = make.operator(), make.operator()

    async with db.transaction("operator") as session:
        await incidents.acknowledge(session, incident.id, actor=first, at=NOON)
        await incidents.acknowledge(session, incident.id, actor=second, at=NOON + MINUTE)
        for minutes in (2, 3):
            await incidents.resolve(
                session, incident.id, resolution=Resolution.DECLARED, actor=first, at=NOON + minutes * MINUTE
            )

    async with db.read("operator") as session:
        found = await queries.get(session, incident.id)
    assert (found.acknowledged_at, found.resolved_at) == (NOON, NOON + 2 * MINUTE)
    assert await names(worker_db) == ["incident.acknowledged", "incident.resolved"]


async def test_a_resolved_incident_cannot_be_acknowledged_or_told(db: Database, worker_db: Database) -> None:
    incident = await make.incident(db, resolved_at=NOON)

    async with db.transaction("operator") as session:
        with pytest.raises(IncidentClosed):
            await incidents.acknowledge(session, incident.id, actor=make.operator(), at=NOON)
        with pytest.raises(IncidentClosed):
            await incidents.post_update(session, incident.id, body="More.", actor=make.operator(), at=NOON)

    assert await names(worker_db) == []


async def test_a_merchant_and_another_partner_cannot_change_an_incident(
    db: Database, worker_db: Database
) -> None:
    account, own, other = await make.account(db), await make.partner(db), await make.partner(db)
    incident = await make.incident(worker_db, partners=[own], accounts=[account])

    for principal in (make.merchant(account), make.of_partner(other), make.ingest()):
        async with db.transaction(principal.scope) as session:
            with pytest.raises(IncidentNotFound):
                await incidents.acknowledge(session, incident.id, actor=principal, at=NOON)

    async with db.transaction(make.of_partner(own).scope) as session:
        await incidents.acknowledge(session, incident.id, actor=make.of_partner(own), at=NOON)
    assert await names(worker_db) == ["incident.acknowledged"]


async def test_an_external_update_changes_in_place_and_never_doubles(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        incident, _ = await open_one(session)
        for body in ("We look into it.", "We look into it.", "We are looking into it."):
            await incidents.post_update(
                session, incident.id, body=body, external_id="u1", display_at=NOON, actor=DETECTOR, at=NOON
            )

    async with worker_db.read() as session:
        bodies = (await session.scalars(select(IncidentUpdate.body))).all()
    assert bodies == ["We are looking into it."]
    assert await names(worker_db) == ["incident.opened", "incident.updated", "incident.updated"]


async def test_an_older_update_does_not_turn_an_incident_back(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        incident, _ = await open_one(session)
        for status, minutes in ((IncidentStatus.MONITORING, 5), (IncidentStatus.IDENTIFIED, 1)):
            await incidents.post_update(
                session, incident.id, body=f"Now {status}.", status=status,
                display_at=NOON + minutes * MINUTE, actor=DETECTOR, at=NOON + 6 * MINUTE,
            )  # fmt: skip

    assert incident.status is IncidentStatus.MONITORING
    assert incident.summary == "Now MONITORING."
    assert incident.monitoring_at == NOON + 6 * MINUTE


async def test_an_incident_reopens_within_the_window_and_not_beside_its_successor(
    worker_db: Database,
) -> None:
    async with worker_db.transaction() as session:
        incident, _ = await open_one(session)
        await incidents.resolve(session, incident.id, resolution=Resolution.INFERRED, actor=DETECTOR, at=NOON)
        with pytest.raises(IncidentClosed):
            await incidents.reopen(
                session, incident.id, actor=DETECTOR, at=NOON + 9 * MINUTE, within=5 * MINUTE
            )
        incident = await incidents.reopen(
            session, incident.id, actor=DETECTOR, at=NOON + MINUTE, within=5 * MINUTE
        )
        assert incident.resolved_at is None
        await incidents.resolve(session, incident.id, resolution=Resolution.INFERRED, actor=DETECTOR, at=NOON)
        successor, _ = await open_one(session)
        with pytest.raises(IncidentExists) as refusal:
            await incidents.reopen(session, incident.id, actor=DETECTOR, at=NOON, within=5 * MINUTE)

    assert isinstance(refusal.value.subject, Incident)
    assert refusal.value.subject.id == successor.id
    async with worker_db.read() as session:
        assert (await queries.get(session, incident.id)).resolved_at == NOON
    assert (await names(worker_db)).count("incident.reopened") == 1


async def test_an_account_is_told_when_it_is_reached_and_when_its_impact_changes_much(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    incident = await make.incident(worker_db)

    async with worker_db.transaction() as session:
        for mid in (None, 1_000, 1_050, 2_000, 2_000):
            impact = IncidentImpact("BRL", money_low=0, money_mid=mid, money_high=9_000)
            await incidents.reach(session, incident.id, account.id, impact, at=NOON)

    told = [
        (name, payload["account"]["money_mid"]) for name, payload in await make.recorded_events(worker_db)
    ]
    assert told == [
        ("incident.reached", None),
        ("incident.impact_changed", 1_000),
        ("incident.impact_changed", 2_000),
    ]


async def test_an_incident_spreads_once_to_all_that_depend_on_its_components(worker_db: Database) -> None:
    partner, service = await make.partner(worker_db), await make.service(worker_db)
    both, one, none = [await make.account(worker_db) for _ in range(3)]
    await make.dependency(worker_db, both, partner, traffic_share=0.3)
    await make.dependency(worker_db, both, service, traffic_share=0.8)
    await make.dependency(worker_db, one, partner, traffic_share=0.2)
    await make.dependency(worker_db, none, await make.partner(worker_db))
    incident = await make.incident(worker_db, partners=[partner], services=[service])

    async with worker_db.transaction() as session:
        assert await incidents.spread(session, incident.id, at=NOON) == 2
    async with worker_db.transaction() as session:
        assert await incidents.spread(session, incident.id, at=NOON) == 0

    async with worker_db.read() as session:
        rows = await session.execute(select(IncidentAccount.account_id, IncidentAccount.traffic_share))
        assert {row.account_id: row.traffic_share for row in rows} == {both.id: 0.8, one.id: 0.2}
    assert await names(worker_db) == ["incident.reached"] * 2


async def test_everyone_lists_what_concerns_them(db: Database, worker_db: Database) -> None:
    parent = await make.account(worker_db)
    child, stranger = await make.account(worker_db, parent=parent), await make.account(worker_db)
    partner = await make.partner(worker_db)
    shared = await make.incident(worker_db, partners=[partner], accounts=[child, stranger])
    alone = await make.incident(worker_db, accounts=[stranger], started_at=NOON + MINUTE)

    expected = {
        make.operator(): [alone.id, shared.id],
        make.merchant(parent, child): [shared.id],
        make.merchant(stranger): [alone.id, shared.id],
        make.of_partner(partner): [shared.id],
        make.ingest(): [],
    }
    for principal, ids in expected.items():
        async with db.read(principal.scope) as session:
            found = await queries.find(session, principal, Page())
            assert [row.id for row in found.rows] == ids
            accounts = await queries.accounts_by_incident(session, [shared.id], Page(), principal=principal)
        seen = {row.account_id for row in accounts[shared.id].rows}
        assert seen <= (set(principal.account_ids) or {child.id, stranger.id})


async def test_filters_are_joined_and_match_nothing_that_is_hidden(db: Database, worker_db: Database) -> None:
    account, stranger = await make.account(worker_db), await make.account(worker_db)
    own, hidden = await make.partner(worker_db), await make.partner(worker_db)
    await make.dependency(worker_db, account, own)
    incident = await make.incident(
        worker_db, title="Slow 50% of_it", partners=[own, hidden], accounts=[account, stranger],
        resolved_at=NOON + 5 * MINUTE,
    )  # fmt: skip
    await make.update(worker_db, incident, body="Rerouted to another acquirer.")
    principal = make.merchant(account)

    hits = [
        IncidentFilter(is_open=False, impacts=[Impact.MAJOR], search="50% rerouted"),
        IncidentFilter(account_ids=[account.id], component_ids=[own.id]),
        IncidentFilter(during=(NOON + 4 * MINUTE, NOON + 9 * MINUTE)),
        IncidentFilter(grouping_keys=[incident.grouping_key], kinds=[incident.kind]),
    ]
    misses = [
        IncidentFilter(is_open=True),
        IncidentFilter(account_ids=[stranger.id]),
        IncidentFilter(component_ids=[hidden.id]),
        IncidentFilter(statuses=[]),
        IncidentFilter(during=(NOON + 5 * MINUTE, NOON + 9 * MINUTE)),
        IncidentFilter(during=(NOON - MINUTE, NOON)),
        IncidentFilter(search="50_"),
        IncidentFilter(is_open=False, origins=[Origin.DETECTED]),
    ]
    async with db.read(principal.scope) as session:
        for wanted, ids in [(one, [incident.id]) for one in hits] + [(one, []) for one in misses]:
            found = await queries.find(session, principal, Page(), filter=wanted)
            assert [row.id for row in found.rows] == ids, wanted


@pytest.mark.parametrize("key", ["partner:{}:AUTHORIZATION_RATE_DROP", "status_page:{}:1", "declared:x"])
async def test_nobody_declares_an_incident_that_anothers_would_join(db: Database, key: str) -> None:
    partner, other = await make.partner(db), await make.partner(db)
    principal = make.of_partner(partner)
    with pytest.raises(InvalidInput, match="grouping key"):
        async with db.transaction(principal.scope) as session:
            await incidents.declare(
                session, title="Slow", body="It is slow.", impact=Impact.MINOR, at=NOON, actor=principal,
                grouping_key=key.format(other.id), statuses={partner.id: ComponentStatus.MAJOR_OUTAGE},
            )  # fmt: skip
