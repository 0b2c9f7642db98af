"""A partner's status page becomes incidents here, each once; what it says again changes nothing."""

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from domain.catalog.models import ComponentStatus, Partner
from domain.core.db import Database
from domain.core.errors import Conflict, InvalidInput
from domain.core.events import Event
from domain.core.ids import uuid7
from domain.incidents.models import Incident, IncidentStatus, IncidentUpdate, Resolution
from domain.statuspages import service
from domain.statuspages.models import StatusSnapshot
from tests import make

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def incident(page_id: str, *bodies: str, status: str = "investigating", **fields: Any) -> dict[str, Any]:
    updates = [
        {
            "id": f"{page_id}-{number}",
            "status": status if number == len(bodies) - 1 else "investigating",
            "body": body,
            "created_at": f"2026-11-23T11:0{number}:00Z",
        }
        for number, body in enumerate(bodies)
    ]
    return {
        "id": page_id,
        "name": f"Trouble {page_id}",
        "status": status,
        "impact": "minor",
        "created_at": "2026-11-23T11:00:00Z",
        "incident_updates": updates[::-1],
        **fields,
    }


def page(*incidents: dict[str, Any], component: str = "operational") -> bytes:
    summary = {
        "page": {"id": "p", "name": "Acme"},
        "components": [{"id": "c", "name": "API", "status": component}],
        "incidents": incidents,
        "scheduled_maintenances": [],
    }
    return json.dumps(summary).encode()


async def see(db: Database, worker_db: Database, partner: Partner, *pages: bytes) -> None:
    """See the pages a minute apart, and apply them."""
    for number, body in enumerate(pages):
        async with db.transaction("operator") as session:
            latest = await session.scalar(text("SELECT max(observed_at) FROM status_snapshots"))
            at = (latest or NOON) + MINUTE
            await service.receive(session, partner.id, body, observed_at=at, at=NOON + number * MINUTE)
    await service.apply_waiting(worker_db, NOON)


async def incidents(worker_db: Database) -> list[Incident]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(Incident).order_by(Incident.external_id)))


async def bodies(worker_db: Database) -> list[str]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(IncidentUpdate.body).order_by(IncidentUpdate.display_at)))


async def test_absence_from_a_later_page_resolves_an_incident_and_says_that_it_is_inferred(
    db: Database, worker_db: Database
) -> None:
    partner = await make.partner(db)
    await see(db, worker_db, partner, page(incident("a", "We look."), component="major_outage"), page())
    [one] = await incidents(worker_db)
    assert (one.status, one.resolution) == (IncidentStatus.RESOLVED, Resolution.INFERRED)
    assert one.resolved_at == NOON + 2 * MINUTE
    assert await bodies(worker_db) == ["We look."]  # what the page did not say is not put into its mouth
    async with worker_db.read() as session:
        assert (await session.get_one(Partner, partner.id)).status is ComponentStatus.OPERATIONAL


async def test_a_page_that_says_resolved_is_believed(db: Database, worker_db: Database) -> None:
    partner = await make.partner(db)
    over = incident("a", "We look.", "It is over.", status="resolved", resolved_at="2026-11-23T11:30:00Z")
    await see(db, worker_db, partner, page(incident("a", "We look.")), page(over), page())
    [one] = await incidents(worker_db)
    assert (one.status, one.resolution) == (IncidentStatus.RESOLVED, Resolution.DECLARED)
    assert await bodies(worker_db) == ["We look.", "It is over."]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"<html>busy</html>", page().replace(b'"incidents": []', b'"incidents": null')],
)
async def test_a_failed_or_empty_fetch_is_refused_and_resolves_nothing(
    db: Database, worker_db: Database, body: bytes
) -> None:
    partner = await make.partner(db)
    await see(db, worker_db, partner, page(incident("a", "We look.")))
    with pytest.raises(InvalidInput, match=r"summary\.json"):
        await see(db, worker_db, partner, body)
    [one] = await incidents(worker_db)
    assert one.resolved_at is None


async def test_a_changed_text_is_changed_and_not_doubled(db: Database, worker_db: Database) -> None:
    partner = await make.partner(db)
    changed = incident("a", "We look into it.", name="Trouble with payments", impact="major")
    await see(db, worker_db, partner, page(incident("a", "We look.")), page(changed))
    [one] = await incidents(worker_db)
    assert (one.title, one.impact.value) == ("Trouble with payments", "MAJOR")
    assert await bodies(worker_db) == ["We look into it."]


async def test_an_incident_that_is_listed_again_goes_on_instead_of_having_a_twin(
    db: Database, worker_db: Database
) -> None:
    partner = await make.partner(db)
    listed = page(incident("a", "We look."))
    await see(db, worker_db, partner, listed, page(), listed)
    [one] = await incidents(worker_db)
    assert (one.resolved_at, one.resolution) == (None, None)


async def test_a_snapshot_that_is_older_than_one_applied_changes_nothing(
    db: Database, worker_db: Database
) -> None:
    partner = await make.partner(db)
    await see(db, worker_db, partner, page())
    async with db.transaction("operator") as session:
        await service.receive(
            session, partner.id, page(incident("a", "Old.")), observed_at=NOON - MINUTE, at=NOON
        )
    await service.apply_waiting(worker_db, NOON)
    assert await incidents(worker_db) == []


async def test_another_snapshot_of_the_same_time_is_a_conflict(db: Database) -> None:
    partner = await make.partner(db)
    async with db.transaction("operator") as session:
        assert await service.receive(session, partner.id, page(), observed_at=NOON, at=NOON)
        assert not await service.receive(session, partner.id, page(), observed_at=NOON, at=NOON)
        other = page(incident("a", "x"))
        with pytest.raises(Conflict):
            await service.receive(session, partner.id, other, observed_at=NOON, at=NOON)


def snapshots(year: str) -> Iterator[tuple[datetime, dict[str, Any]]]:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    path = Path(folder) / "status/github_statuspage/summary_snapshots.jsonl.gz"
    with gzip.open(path) as file:
        for line in file:
            row = json.loads(line)
            if row["observed_at"].startswith(year):
                yield datetime.fromisoformat(row["observed_at"]), row["summary"]


async def test_every_incident_of_a_real_year_exists_once_with_its_updates_and_a_second_replay_changes_nothing(
    db: Database, worker_db: Database
) -> None:
    partner = await make.partner(db)
    expected: dict[str, dict[str, str]] = {}
    rows = list(snapshots("2023"))
    for observed_at, summary in rows:
        for one in summary["incidents"]:
            told = expected.setdefault(f"{partner.code}:{one['id']}", {})
            told.update({u["id"]: u["body"].strip() for u in one["incident_updates"]})
        async with db.transaction("operator") as session:
            body = json.dumps(summary).encode()
            assert await service.receive(session, partner.id, body, observed_at=observed_at, at=NOON)
    assert await service.apply_waiting(worker_db, NOON) == len(rows)
    found = [one for one in await incidents(worker_db) if one.scheduled_for is None]
    assert [one.external_id for one in found] == sorted(expected)
    last = [i["id"] for i in rows[-1][1]["incidents"]]
    live = [one.external_id for one in found if one.resolved_at is None]
    assert live == sorted(f"{partner.code}:{one}" for one in last)
    assert {one.resolution for one in found if one.resolved_at} == {Resolution.INFERRED}
    async with worker_db.read() as session:
        for one in found:
            told = await session.execute(
                select(IncidentUpdate.external_id, IncidentUpdate.body)
                .where(IncidentUpdate.incident_id == one.id)
                .order_by(IncidentUpdate.display_at, IncidentUpdate.external_id)
            )
            assert dict(told.all()) == expected[str(one.external_id)]
        events = await session.scalar(select(func.count()).select_from(Event))
    async with db.transaction("operator") as session:
        for observed_at, summary in rows:
            body = json.dumps(summary).encode()
            assert not await service.receive(session, partner.id, body, observed_at=observed_at, at=NOON)
    assert await service.apply_waiting(worker_db, NOON) == 0
    async with worker_db.read() as session:
        assert await session.scalar(select(func.count()).select_from(Event)) == events


async def test_a_postmortem_without_a_resolution_ends_the_incident(db: Database, worker_db: Database) -> None:
    partner = await make.partner(db)
    over = incident("a", "We look.", "What we learnt.", status="postmortem")
    await see(db, worker_db, partner, page(incident("a", "We look.")), page(over))
    [one] = await incidents(worker_db)
    assert (one.status, one.resolution) == (IncidentStatus.POSTMORTEM, Resolution.DECLARED)
    assert await bodies(worker_db) == ["We look.", "What we learnt."]


async def test_a_text_as_long_or_odd_as_pages_have_them_is_told(db: Database, worker_db: Database) -> None:
    partner = await make.partner(db)
    await see(db, worker_db, partner, page(incident("a", "Odd\0.", "x" * 30_000)))
    odd, long = await bodies(worker_db)
    assert odd == "Odd."
    assert len(long) == 20_000


async def test_a_snapshot_that_cannot_be_applied_is_put_aside_and_stops_nobody_else(
    db: Database, worker_db: Database
) -> None:
    partners = [await make.partner(db) for _ in range(3)]
    async with worker_db.transaction() as session:
        row = StatusSnapshot(
            id=uuid7(),
            partner_id=partners[1].id,
            observed_at=NOON,
            received_at=NOON,
            body_hash=b"",
            summary={},
        )
        session.add(row)
    for partner in partners:
        async with db.transaction("operator") as session:
            await service.receive(
                session, partner.id, page(incident("a", "We look.")), observed_at=NOON + MINUTE, at=NOON
            )
    for _ in range(3):
        with pytest.raises(ExceptionGroup, match="status pages"):
            await service.apply_waiting(worker_db, NOON)
    await service.apply_waiting(worker_db, NOON)
    assert len(await incidents(worker_db)) == 3
    async with worker_db.read() as session:
        refusal = (await session.get_one(StatusSnapshot, row.id)).refusal
    assert refusal is not None
    assert "summary.json" in refusal


async def test_a_page_cannot_name_another_partners_incident(db: Database, worker_db: Database) -> None:
    partner, other = await make.partner(db, code="acme"), await make.partner(db, code="acme:east")
    await see(db, worker_db, other, page(incident("1", "Theirs.")))
    await see(db, worker_db, partner, page(incident("east:1", "Not theirs.")))
    assert len(await incidents(worker_db)) == 2
