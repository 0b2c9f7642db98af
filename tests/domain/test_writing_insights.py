"""What is found of an account is written once, in its own figures, and follows the facts until it is over."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from domain.anomalies.models import AccountWatch, Anomaly
from domain.catalog.models import Account, Partner
from domain.core import events
from domain.core.db import Database
from domain.incidents.models import HealthKind, Incident, Severity
from domain.insights import decline_mix, endings, writing
from domain.insights.models import Insight, InsightKind, InsightStatus
from domain.insights.writing import Memory
from domain.telemetry.models import Series
from tests import make
from tests.domain.test_judging import NOW, day_of_payments, feed  # noqa: F401  # a fixture is used by name
from tests.make import NOON

AT = NOON + timedelta(minutes=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OUTCOMES = {"approved": 80.0, "declined": 20.0}


async def write(worker_db: Database, *, at: datetime = AT) -> int:
    return await writing.write(worker_db, at, memory=Memory())


async def insights(worker_db: Database) -> list[Insight]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(Insight).order_by(Insight.created_at, Insight.finding_key)))


async def names(worker_db: Database) -> list[str]:
    return [name for name, _ in await make.recorded_events(worker_db)]


async def week(
    worker_db: Database, account: Account, *, amount: float | None = None, **labels: str
) -> Mapping[str, Series]:
    """The day before NOON: 80 approved and 20 declined an hour, the approved of `amount` minor units."""
    found = {
        outcome: await make.series(worker_db, account, outcome=outcome, **labels) for outcome in OUTCOMES
    }
    for outcome, series in found.items():
        await make.hours(worker_db, series, *[OUTCOMES[outcome]] * 24, from_=NOON - DAY)
    if amount is not None:
        series = await make.series(worker_db, account, "payments.amount", outcome="approved", **labels)
        await make.hours(worker_db, series, *[80 * amount] * 24, from_=NOON - DAY)
    return found


async def rate_drop(worker_db: Database, account: Account, **columns: Any) -> Incident:
    return await make.incident(
        worker_db, kind=HealthKind.AUTHORIZATION_RATE_DROP, accounts=[account], **columns
    )


async def depended_on(worker_db: Database, account: Account, share: float = 0.43) -> Partner:
    partner = await make.partner(worker_db, name="Acquirer A")
    await make.dependency(worker_db, account, partner, traffic_share=share)
    return partner


async def change(worker_db: Database, statement: Any) -> None:
    async with worker_db.transaction() as session:
        await session.execute(statement)


async def test_a_rate_drop_names_the_narrowest_slice_that_explains_it(worker_db: Database) -> None:
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    await week(worker_db, account, amount=10_000)
    incident = await rate_drop(worker_db, account)
    total = await make.series(worker_db, account, "authorization_rate")
    method = await make.series(worker_db, account, "authorization_rate", method="card")
    slice_ = await make.series(worker_db, account, "authorization_rate", partner=partner.code)
    await make.anomaly(worker_db, method, incident, sample_size=950, shortfall=190.0)
    await make.anomaly(
        worker_db, slice_, incident, observed=0.25, expected=0.75, sample_size=340, shortfall=170.0
    )
    await make.anomaly(worker_db, total, incident)
    assert await write(worker_db) == 1
    [found] = await insights(worker_db)
    assert found.title == "Your authorization rate is down to 60.0%, most of it at partner Acquirer A"
    assert found.summary == (
        "23 Nov 09:00 to 09:10, 60.0% of 1,000 payments were approved; expected 80.0% (77.0% to 83.0%)."
        " 85.0% of what is missing is at partner Acquirer A."
        " So far, about 200 approved payments are missing,"
        " worth BRL 20,000.00 (BRL 17,060.00 to BRL 22,940.00)."
        " Times are those of America/Sao_Paulo."
    )
    assert (found.impact_low, found.impact_mid, found.impact_high) == (1_706_000, 2_000_000, 2_294_000)
    assert (found.partner_id, found.incident_id, found.severity) == (
        partner.id, incident.id, Severity.CRITICAL,
    )  # fmt: skip
    assert (found.kind, found.status, found.expires_at) == (
        InsightKind.AUTHORIZATION_RATE_DROP, InsightStatus.NEW, None,
    )  # fmt: skip
    assert [one["series_id"] for one in found.evidence] == [str(one.id) for one in (total, method, slice_)]
    assert found.evidence[2] == {
        "sentence": "23 Nov 09:00 to 09:10, 25.0% of 340 payments at partner Acquirer A were approved;"
        " expected 75.0% (77.0% to 83.0%).",
        "series_id": str(slice_.id),
        "from": "2026-11-23T12:00:00+00:00",
        "until": "2026-11-23T12:10:00+00:00",
        "observed": 0.25,
        "expected": 0.75,
        "lower": 0.77,
        "upper": 0.83,
        "sample_size": 340,
    }
    assert [one["key"] for one in found.recommended_actions] == [
        "route_to_another_partner", "show_other_methods",
    ]  # fmt: skip
    [(name, payload)] = await make.recorded_events(worker_db)
    assert (name, payload["title"]) == ("insight.created", found.title)


async def test_where_no_amounts_are_sent_no_money_is_claimed(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await week(worker_db, account)
    incident = await rate_drop(worker_db, account)
    await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    await write(worker_db)
    [found] = await insights(worker_db)
    assert (found.impact_low, found.impact_mid, found.impact_high) == (None, None, None)
    assert (
        "200 approved payments are missing. Send payments.amount to see what that is worth." in found.summary
    )


async def test_where_payments_end_decides_what_to_do(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await week(worker_db, account)
    refused = await make.series(worker_db, account, outcome="declined", code="do_not_honor")
    approved = await make.series(worker_db, account, outcome="approved", method="card")
    for series, count in ((refused, 60.0), (approved, 40.0)):
        await make.hours(worker_db, series, count, from_=NOON)
    await make.watch(worker_db, account, until=NOON + HOUR)
    incident = await rate_drop(worker_db, account)
    await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    await write(worker_db)
    [found] = await insights(worker_db)
    ending = "More payments end as declined with code do_not_honor: 60.0% of attempts, before 0.0%."
    assert ending in found.summary
    assert [one["key"] for one in found.recommended_actions] == ["ask_for_3d_secure", "use_network_tokens"]


async def test_episodes_of_one_series_add_up_and_slices_do_not(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await week(worker_db, account, amount=10_000)
    incident = await rate_drop(worker_db, account)
    for metric, labels in (("authorization_rate", {}), ("authorization_rate", {"method": "card"})):
        series = await make.series(worker_db, account, metric, **labels)
        for hour, shortfall in ((0, 200.0), (1, 50.0)):
            started_at = NOON + hour * HOUR
            await make.anomaly(
                worker_db, series, incident, started_at=started_at, ended_at=started_at + HOUR / 2,
                shortfall=shortfall, sample_size=500 * (2 - bool(labels)),
            )  # fmt: skip
    await write(worker_db)
    [found] = await insights(worker_db)
    assert "100.0% of what is missing is at method card." in found.summary
    assert "In all, about 250 approved payments were missing" in found.summary
    assert (found.impact_low, found.impact_mid) == (2_084_221, 2_500_000)


async def test_of_missing_attempts_only_the_usual_part_is_worth_money(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await week(worker_db, account, amount=10_000)
    incident = await make.incident(worker_db, kind=HealthKind.TRAFFIC_VOLUME_DROP, accounts=[account])
    series = await make.series(worker_db, account, "payments.attempted")
    await make.anomaly(
        worker_db, series, incident, observed=400.0, expected=900.0, lower=800.0, upper=1000.0,
        sample_size=900, shortfall=500.0, shortfall_variance=2500.0, detector="volume-drop",
    )  # fmt: skip
    await write(worker_db)
    [found] = await insights(worker_db)
    assert found.title == "Your traffic is down by 55.6%"
    assert found.summary.startswith(
        "23 Nov 09:00 to 09:10, 400 payments were attempted; expected 900 (800 to 1,000)."
        " So far, about 500 attempts are missing, worth BRL 40,000.00 (BRL 32,160.00 to BRL 47,840.00)."
    )
    assert found.evidence[0]["sample_size"] == 400
    assert [one["key"] for one in found.recommended_actions] == ["check_checkout", "check_telemetry"]


async def test_what_is_over_is_told_in_all_and_ends_a_week_later_unless_somebody_has_it(
    worker_db: Database,
) -> None:
    accounts = [await make.account(worker_db) for _ in range(2)]
    for account in accounts:
        incident = await rate_drop(worker_db, account)
        await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    await write(worker_db)
    over = NOON + timedelta(minutes=20)
    await change(worker_db, update(Anomaly).values(ended_at=over, shortfall=260.0))
    await change(worker_db, update(Incident).values(resolved_at=over, updated_at=over))
    assert await write(worker_db) == 2
    taken, left = await insights(worker_db)
    assert "In all, about 260 approved payments were missing" in left.summary
    assert left.expires_at == AT + timedelta(days=7)
    assert await write(worker_db, at=AT + DAY) == 0
    await change(worker_db, update(Insight).where(Insight.id == taken.id).values(status="ACCEPTED"))
    assert await writing.expire(worker_db, AT + timedelta(days=7, seconds=-1)) == 0
    assert await writing.expire(worker_db, AT + timedelta(days=7)) == 1
    assert [one.status for one in await insights(worker_db)] == [
        InsightStatus.ACCEPTED, InsightStatus.EXPIRED,
    ]  # fmt: skip
    assert await write(worker_db, at=AT + timedelta(days=8)) == 0


async def test_racing_writers_write_once(worker_db: Database) -> None:
    for _ in range(3):
        account = await make.account(worker_db)
        incident = await rate_drop(worker_db, account)
        await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    assert sum(await asyncio.gather(*(write(worker_db) for _ in range(5)))) == 3
    assert len(await insights(worker_db)) == 3
    assert await names(worker_db) == ["insight.created"] * 3


async def test_it_follows_the_facts_and_is_still_when_they_are(worker_db: Database) -> None:
    account = await make.account(worker_db)
    incident = await rate_drop(worker_db, account)
    await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    memory = Memory()
    await make.watch(worker_db, account, until=AT)
    assert await writing.write(worker_db, AT, memory=memory) == 1
    assert await writing.write(worker_db, AT, memory=memory) == 0
    assert await write(worker_db) == 0
    await change(worker_db, update(Anomaly).values(shortfall=300.0))
    await change(worker_db, update(AccountWatch).values(judged_until=AT + HOUR))
    assert await writing.write(worker_db, AT + HOUR, memory=memory) == 1
    [found] = await insights(worker_db)
    assert "about 300 approved payments are missing" in found.summary
    assert (found.created_at, found.updated_at) == (AT, AT + HOUR)
    assert await names(worker_db) == ["insight.created", "insight.updated"]


async def test_an_account_that_fails_does_not_stop_the_others(worker_db: Database) -> None:
    for zone in ("Nowhere/Land", "Europe/Berlin"):
        account = await make.account(worker_db, time_zone=zone)
        incident = await rate_drop(worker_db, account)
        await make.anomaly(worker_db, await make.series(worker_db, account, "authorization_rate"), incident)
    with pytest.raises(ExceptionGroup) as raised:
        await write(worker_db)
    assert len(raised.value.exceptions) == 1
    assert [one.account_id for one in await insights(worker_db)] == [account.id]


async def through_partner(
    worker_db: Database, account: Account, partner: Partner, *, approved: float, declined: float
) -> None:
    """The usual 80 % of 2,400 payments before NOON, and these in the hour after it."""
    found = await week(worker_db, account, amount=10_000, partner=partner.code)
    await make.hours(worker_db, found["approved"], approved, from_=NOON)
    await make.hours(worker_db, found["declined"], declined, from_=NOON)
    await make.watch(worker_db, account, until=NOON + HOUR)


async def test_a_partners_incident_says_what_the_accounts_own_payments_did(worker_db: Database) -> None:
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    await through_partner(worker_db, account, partner, approved=50, declined=50)
    rate = await make.series(worker_db, account, "authorization_rate", partner=partner.code)
    incident = await make.incident(worker_db, partners=[partner], accounts=[account], title="Time-outs")
    await write(worker_db)
    [found] = await insights(worker_db)
    assert found.kind is InsightKind.PARTNER_INCIDENT
    assert found.title == "Acquirer A has an incident: 43.0% of your traffic runs through it"
    assert found.summary == (
        "Acquirer A: Time-outs, since 23 Nov 09:00. 43.0% of your traffic runs through Acquirer A."
        " 50.0% of 100 payments through it were approved, usual is 80.0% (72.0% to 88.0%)."
        " About 30 are missing, worth BRL 3,000.00 (BRL 2,199.83 to BRL 3,800.17)."
        " Times are those of America/Sao_Paulo."
    )
    share, effect = found.evidence
    assert share["observed"] == 0.43
    assert (effect["observed"], effect["expected"], effect["sample_size"]) == (0.5, 0.8, 100)
    assert effect["series_id"] == str(rate.id)
    assert (found.impact_low, found.impact_mid, found.impact_high) == (219_983, 300_000, 380_017)
    assert (found.partner_id, found.incident_id, found.severity) == (
        partner.id, incident.id, Severity.CRITICAL,
    )  # fmt: skip
    assert found.recommended_actions[0]["key"] == "route_to_another_partner"


async def test_without_an_effect_a_partners_incident_claims_none(worker_db: Database) -> None:
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    await through_partner(worker_db, account, partner, approved=82, declined=18)
    await make.incident(worker_db, partners=[partner], accounts=[account])
    await write(worker_db)
    [found] = await insights(worker_db)
    assert "No effect on your payments is measured so far: 82.0% of 100 payments" in found.summary
    assert (found.impact_low, found.impact_mid) == (0, 0)
    assert found.confidence < 0.5
    assert found.severity is Severity.NON_CRITICAL
    assert found.recommended_actions[0]["key"] == "follow_partner"


async def test_of_an_account_that_sends_nothing_the_share_is_all_that_is_said(worker_db: Database) -> None:
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    await make.incident(
        worker_db, partners=[partner], accounts=[account], resolved_at=AT, updated_at=AT,
        kind=HealthKind.SCHEDULED_MAINTENANCE,
    )  # fmt: skip
    await write(worker_db)
    [found] = await insights(worker_db)
    assert found.title == "Acquirer A had maintenance: 43.0% of your traffic runs through it"
    assert (
        "No payments of yours through it are known of that time, so no effect is measured." in found.summary
    )
    assert (found.impact_mid, found.confidence, len(found.evidence)) == (None, 0.5, 1)


async def test_a_partner_that_the_account_does_not_depend_on_is_not_told_of(worker_db: Database) -> None:
    account, partner = await make.account(worker_db), await make.partner(worker_db)
    await make.incident(worker_db, partners=[partner], accounts=[account])
    assert await write(worker_db) == 0


async def test_an_account_that_sees_a_partners_incident_itself_is_told_of_it_once(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    incident = await rate_drop(worker_db, account, partners=[partner])
    await write(worker_db)
    series = await make.series(worker_db, account, "authorization_rate", partner=partner.code)
    await make.anomaly(worker_db, series, incident)
    assert await write(worker_db) == 2
    assert {one.kind: one.status for one in await insights(worker_db)} == {
        InsightKind.PARTNER_INCIDENT: InsightStatus.EXPIRED,
        InsightKind.AUTHORIZATION_RATE_DROP: InsightStatus.NEW,
    }
    assert (await insights(worker_db))[0].title.endswith("is down to 60.0% at partner Acquirer A")


async def test_an_incident_of_a_replayed_past_is_told_of_though_it_is_over(worker_db: Database) -> None:
    past = datetime(2023, 5, 1, tzinfo=UTC)
    account = await make.account(worker_db)
    partner = await depended_on(worker_db, account)
    incident = await make.incident(
        worker_db, partners=[partner], accounts=[account], started_at=past, updated_at=past, resolved_at=past
    )
    assert await write(worker_db) == 0
    async with worker_db.transaction() as session:
        await events.record(session, "incident.resolved", incident.id, at=past)
    assert await write(worker_db) == 1
    assert [one.expires_at for one in await insights(worker_db)] == [AT + timedelta(days=7)]


CODES = {"insufficient_funds": (50, 20), "do_not_honor": (30, 30), "expired_card": (20, 10)}


async def declines(worker_db: Database, account: Account) -> None:
    """An hour: 100 approved and 50/30/20 declined by code for a week, then 20/30/10 the day before NOON."""
    for code, (before, now) in CODES.items():
        series = await make.series(worker_db, account, outcome="declined", code=code)
        await make.hours(worker_db, series, *[before] * (7 * 24), *[now] * 24, from_=NOON - 8 * DAY)
    for metric, value in (("payments.count", 100), ("payments.amount", 500_000)):
        series = await make.series(worker_db, account, metric, outcome="approved")
        await make.hours(worker_db, series, *[value] * (8 * 24), from_=NOON - 8 * DAY)


async def test_a_code_that_takes_much_more_of_the_declines_is_told_once_a_local_day(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    await declines(worker_db, account)
    await make.watch(worker_db, account, until=NOON + timedelta(minutes=7))
    assert await write(worker_db) == 1
    [found] = await insights(worker_db)
    assert found.finding_key == "decline_mix:2026-11-23:do_not_honor"
    assert found.title == "50.0% of your declines are do_not_honor, usual is 30.0%"
    assert found.summary == (
        "22 Nov 09:00 to 23 Nov 09:00, 720 of 1,440 declines with a code (50.0%) were do_not_honor; in the"
        " week before 30.0% (27.5% to 32.5%). Of all 3,840 payments 18.8% were declined with it; in the"
        " week before 15.0% (13.8% to 16.2%). That is about 144 payments more than usual, worth BRL"
        " 7,200.00 (BRL 4,911.00 to BRL 9,489.00). Times are those of America/Sao_Paulo."
    )
    assert [(one["observed"], one["expected"], one["sample_size"]) for one in found.evidence] == [
        (0.5, 0.3, 1440), (0.1875, 0.15, 3840),
    ]  # fmt: skip
    assert [one["key"] for one in found.recommended_actions] == [
        "ask_for_3d_secure", "use_network_tokens", "read_decline_codes",
    ]  # fmt: skip
    assert found.expires_at == AT + DAY
    assert await write(worker_db) == 0


async def test_a_mix_that_is_usual_again_no_longer_holds(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await declines(worker_db, account)
    await make.watch(worker_db, account, until=NOON)
    memory = Memory()
    assert await writing.write(worker_db, AT, memory=memory) == 1
    async with worker_db.read() as session:
        refused = select(Series).where(Series.labels["code"].astext == "do_not_honor")
        series = (await session.scalars(refused)).one()
    await make.hours(worker_db, series, *[5.0] * 24, from_=NOON - DAY)
    await change(worker_db, update(AccountWatch).values(judged_until=NOON + HOUR))
    assert await writing.write(worker_db, AT, memory=memory) == 1
    assert [one.status for one in await insights(worker_db)] == [InsightStatus.EXPIRED]


def mix(**counts: float) -> Mapping[endings.End, float]:
    return {("approved", None): 10_000.0, **{("declined", code): count for code, count in counts.items()}}


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        (mix(a=5000, b=5000), mix(a=500, b=500), []),
        (mix(a=5000, b=5000), mix(a=600, b=400), ["a"]),
        (mix(a=5000, b=5000), mix(a=590, b=410), []),
        (mix(a=5000, b=5000), mix(a=60, b=39), []),
        (mix(a=250, b=249), mix(a=600, b=400), []),
        (mix(a=1000), mix(a=900, b=100), ["b"]),
        (mix(a=1000), mix(a=100, b=29), []),
        (mix(), mix(a=100, b=29), []),
    ],
)
async def test_only_a_large_and_certain_shift_is_one(
    before: Mapping[endings.End, float], now: Mapping[endings.End, float], found: list[str]
) -> None:
    assert [one.code for one in decline_mix.shifts(before, now)] == found


async def test_the_afternoon_on_which_payments_fell_is_told_to_the_account(
    db: Database,
    worker_db: Database,
    day_of_payments: list[tuple[int, str, float]],  # noqa: F811  # the fixture imported above
) -> None:
    account = await make.account(db, time_zone="UTC")
    await feed(db, worker_db, account, day_of_payments, every=1440)
    assert await write(worker_db, at=NOW) >= 1
    found = (await insights(worker_db))[0]
    assert found.title.startswith("Your completion rate fell to ")
    assert found.evidence[0]["from"] < found.evidence[0]["until"] < "2026-11-20T19:10"
    assert found.recommended_actions
    assert await write(worker_db, at=NOW) == 0
