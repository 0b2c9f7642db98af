"""What people do about insights, what becomes of it, and who sees them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from domain.access.principal import Principal
from domain.core.db import Database
from domain.core.errors import InvalidInput, NotFound
from domain.core.ids import uuid7
from domain.core.paging import Page
from domain.incidents.models import Severity
from domain.insights import findings, queries, service
from domain.insights.models import (
    DismissalReason,
    Insight,
    InsightClosed,
    InsightKind,
    InsightNotFound,
    InsightStatus,
)
from domain.insights.queries import InsightFilter, InsightOrder
from tests import make
from tests.make import NOON

LATER = NOON + timedelta(hours=1)
BY = {"by": "Ana", "at": LATER}
ACTIONS = [{"key": "show_other_methods"}, {"key": "retry_later"}]
NOT_RELEVANT = DismissalReason.NOT_RELEVANT


async def status(worker_db: Database, insight_id: UUID) -> InsightStatus:
    async with worker_db.read() as session:
        return (await session.scalars(select(Insight.status).where(Insight.id == insight_id))).one()


async def changes(worker_db: Database) -> list[Any]:
    """Status and author of each change that was recorded."""
    return [(told["status"], told["by"]) for _, told in await make.recorded_events(worker_db)]


async def test_an_insight_that_is_acknowledged_has_somebody_who_sees_to_it(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    insight = await make.insight(worker_db, account)
    principal = make.merchant(account)
    for assignee, expected in ((None, "Ana"), (None, "Ana"), ("Bo", "Bo"), (None, "Bo")):
        async with db.transaction(principal.scope) as session:
            found = await service.acknowledge(
                session, insight.id, assignee=assignee, principal=principal, **BY
            )
            assert (found.status, found.assignee) == (InsightStatus.ACCEPTED, expected)
    assert await changes(worker_db) == [("ACCEPTED", "Ana"), ("ACCEPTED", "Ana")]
    for assignee in ("", "two\nlines"):
        with pytest.raises(InvalidInput):
            async with db.transaction(principal.scope) as session:
                await service.acknowledge(session, insight.id, assignee=assignee, **BY)


async def test_a_dismissal_may_be_repeated_and_not_altered(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    insight = await make.insight(worker_db, account)
    for _ in range(2):
        async with db.transaction(make.merchant(account).scope) as session:
            found = await service.dismiss(session, insight.id, reason=NOT_RELEVANT, note="No\nshop", **BY)
            assert (found.status, found.dismissal_note) == (InsightStatus.DISMISSED, "No\nshop")
    with pytest.raises(InsightClosed):
        async with db.transaction(make.merchant(account).scope) as session:
            await service.dismiss(session, insight.id, reason=DismissalReason.WRONG, note="No\nshop", **BY)
    assert await changes(worker_db) == [("DISMISSED", "Ana")]


async def test_an_action_that_was_taken_is_one_of_those_recommended(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    insight = await make.insight(worker_db, account, recommended_actions=ACTIONS)
    scope = make.merchant(account).scope
    with pytest.raises(InvalidInput, match="there are: show_other_methods, retry_later"):
        async with db.transaction(scope) as session:
            await service.complete(session, insight.id, action_key="pray", **BY)
    with pytest.raises(InvalidInput, match="not in the future"):
        async with db.transaction(scope) as session:
            await service.complete(
                session, insight.id, action_key="retry_later", applied_at=LATER + timedelta(seconds=1), **BY
            )
    assert await status(worker_db, insight.id) is InsightStatus.NEW
    for _ in range(2):
        async with db.transaction(scope) as session:
            found = await service.complete(
                session, insight.id, action_key="retry_later", applied_at=NOON, **BY
            )
            assert (found.status, found.applied_action, found.applied_at) == (
                InsightStatus.APPLIED, "retry_later", NOON,
            )  # fmt: skip
    with pytest.raises(InsightClosed):
        async with db.transaction(scope) as session:
            await service.complete(session, insight.id, action_key="show_other_methods", **BY)
    assert await changes(worker_db) == [("APPLIED", "Ana")]


@pytest.mark.parametrize("closed", ["APPLIED", "DISMISSED", "EXPIRED"])
async def test_nothing_is_done_about_a_closed_insight(
    db: Database, worker_db: Database, closed: InsightStatus
) -> None:
    account = await make.account(db)
    insight = await make.insight(
        worker_db, account, status=InsightStatus(closed), recommended_actions=ACTIONS
    )
    async with db.transaction(make.merchant(account).scope) as session:
        with pytest.raises(InsightClosed):
            await service.acknowledge(session, insight.id, **BY)
        with pytest.raises(InsightClosed):
            await service.dismiss(session, insight.id, reason=NOT_RELEVANT, **BY)
        with pytest.raises(InsightClosed):
            await service.complete(session, insight.id, action_key="retry_later", **BY)
        [seen] = await service.mark_seen(session, [insight.id], **BY)
    assert seen.status == closed
    assert await make.recorded_events(worker_db) == []


async def test_marking_as_seen_touches_new_ones_alone_and_all_or_none(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    new = await make.insight(worker_db, account)
    taken = await make.insight(worker_db, account, status=InsightStatus.ACCEPTED)
    scope = make.merchant(account).scope
    with pytest.raises(InsightNotFound):
        async with db.transaction(scope) as session:
            await service.mark_seen(session, [new.id, uuid7()], **BY)
    assert await status(worker_db, new.id) is InsightStatus.NEW
    async with db.transaction(scope) as session:
        found = await service.mark_seen(session, [taken.id, new.id], **BY)
    assert [one.status for one in found] == [InsightStatus.ACCEPTED, InsightStatus.SEEN]
    with pytest.raises(InvalidInput):
        async with db.transaction(scope) as session:
            await service.mark_seen(session, [uuid7() for _ in range(101)], **BY)


async def test_an_insight_of_another_account_does_not_exist(db: Database, worker_db: Database) -> None:
    account, other = await make.account(db), await make.account(db)
    partner = await make.partner(db)
    insight = await make.insight(worker_db, account, recommended_actions=ACTIONS)
    for principal in (make.merchant(other), make.of_partner(partner), make.ingest()):
        # Once by the predicate behind an operator's scope, once by row security alone.
        for scope, who in (("operator", principal), (principal.scope, None)):
            async with db.transaction(scope) as session:
                for attempt in (
                    service.acknowledge(session, insight.id, principal=who, **BY),
                    service.dismiss(session, insight.id, reason=NOT_RELEVANT, principal=who, **BY),
                    service.complete(session, insight.id, action_key="retry_later", principal=who, **BY),
                    service.mark_seen(session, [insight.id], principal=who, **BY),
                    queries.get(session, insight.id, principal=who),
                ):
                    with pytest.raises(NotFound):
                        await attempt
    assert await status(worker_db, insight.id) is InsightStatus.NEW
    assert await make.recorded_events(worker_db) == []


async def ids(db: Database, principal: Principal, **asked: Any) -> list[UUID]:
    async with db.read(principal.scope) as session:
        found = await queries.page(session, principal, asked.pop("part", Page()), **asked)
    return [one.id for one in found.rows]


async def test_a_page_holds_what_the_principal_may_see_in_the_order_asked_for(
    db: Database, worker_db: Database
) -> None:
    parent = await make.account(db)
    account, other = await make.account(db, parent=parent), await make.account(db)
    first = await make.insight(worker_db, account, rank=3.0)
    second = await make.insight(worker_db, account, rank=5.0, created_at=LATER)
    third = await make.insight(worker_db, other, rank=4.0, created_at=LATER + timedelta(hours=1))
    assert await ids(db, make.operator()) == [third.id, second.id, first.id]
    assert await ids(db, make.operator(), order=InsightOrder.RANK) == [second.id, third.id, first.id]
    assert await ids(db, make.merchant(account)) == [second.id, first.id]
    assert await ids(db, make.merchant(parent, account)) == [second.id, first.id]
    assert await ids(db, make.of_partner(await make.partner(db))) == []
    async with db.read("operator") as session:
        top = await queries.page(session, make.operator(), Page(size=1), order=InsightOrder.RANK)
    rest = Page(cursor=top.cursors[0])
    assert await ids(db, make.operator(), part=rest, order=InsightOrder.RANK) == [third.id, first.id]


async def test_a_filter_joins_its_fields(db: Database, worker_db: Database) -> None:
    account, partner = await make.account(db), await make.partner(db)
    incident = await make.incident(worker_db)
    wanted = await make.insight(
        worker_db, account, kind=InsightKind.PARTNER_INCIDENT, status=InsightStatus.SEEN,
        severity=Severity.NON_CRITICAL, partner_id=partner.id, incident_id=incident.id,
    )  # fmt: skip
    await make.insight(worker_db, account)
    for one in (
        InsightFilter(kinds=[InsightKind.PARTNER_INCIDENT]),
        InsightFilter(statuses=[InsightStatus.SEEN]),
        InsightFilter(severities=[Severity.NON_CRITICAL], account_ids=[account.id]),
        InsightFilter(component_ids=[partner.id], created=(NOON, LATER)),
        InsightFilter(incident_ids=[incident.id]),
    ):
        assert await ids(db, make.operator(), filter=one) == [wanted.id]
    assert await ids(db, make.operator(), filter=InsightFilter(created=(LATER, LATER))) == []
    assert await ids(db, make.operator(), filter=InsightFilter(kinds=[])) == []


def ranked(missing: float, *, days: float = 0, critical: bool = False, variance: float = 1.0) -> float:
    return findings.rank(
        missing,
        1000,
        confidence=findings.confidence(missing, variance),
        severity=Severity.CRITICAL if critical else Severity.NON_CRITICAL,
        at=NOON + timedelta(days=days),
    )


def test_rank_is_by_loss_against_the_turnover_certainty_severity_and_freshness() -> None:
    assert ranked(200) > ranked(100) > ranked(0) == ranked(-50)
    assert ranked(100, variance=10) > ranked(100, variance=10_000)
    assert ranked(100, critical=True) > ranked(100) > ranked(100, days=-1)
    assert ranked(800) < ranked(400, days=1.1)


def test_confidence_is_the_chance_that_at_least_half_of_it_is_true() -> None:
    assert findings.confidence(0, 100) == 0.5
    assert findings.confidence(-20, 100) == pytest.approx(0.0228, abs=1e-4)
    assert findings.confidence(20, 100) == pytest.approx(0.8413, abs=1e-4)
    assert findings.confidence(1000, 100) == 0.99
    assert findings.confidence(0, 0) == 0.5
