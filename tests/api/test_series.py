"""What series came to, as it is asked for: days, percentiles, summaries, groups; and what is refused."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.graphql import ids
from domain.core.db import Database
from domain.telemetry import rollups
from domain.telemetry.fold import fold
from domain.telemetry.models import Series
from tests import make
from tests.api.conftest import Client, ClientOf
from tests.domain.readings import Raw, Said
from tests.make import NOON

AFTERNOON = (
    '{range: {between: {from: "2026-11-23T12:00:00Z", until: "2026-11-23T15:00:00Z"}}, resolution: HOUR}'
)


async def ask(client: Client, series: Series, fields: str) -> Mapping[str, Any]:
    query = f"query ($id: ID!) {{ node(id: $id) {{ ... on Series {{ {fields} }} }} }}"
    found: Mapping[str, Any] = (await client.ask(query, id=ids.of(series)))["node"]
    return found


async def refusals(client: Client, series: Series, fields: str) -> list[tuple[str, str]]:
    query = f"query ($id: ID!) {{ node(id: $id) {{ id ... on Series {{ {fields} }} }} }}"
    result = await client.result(query, id=ids.of(series))
    assert result["data"]["node"]["id"] == ids.of(series)
    return [(one["extensions"]["code"], one["message"]) for one in result["errors"]]


async def test_a_window_is_told_as_one_number_beside_the_one_before(
    client_of: ClientOf, worker_db: Database
) -> None:
    account = await make.account(worker_db)
    rate = await make.series(worker_db, account, "authorization_rate")
    attempted = await make.series(worker_db, account, "payments.attempted")
    for outcome, values in (("approved", (50, 90, 0, 60)), ("declined", (50, 10, 0, 15))):
        counted = await make.series(worker_db, account, outcome=outcome)
        await make.hours(worker_db, counted, *values, from_=NOON - timedelta(hours=1))
    client = await client_of(account=account)
    summary = f'summary(window: {AFTERNOON}, compareTo: "PT3H") {{ value previous change sampleSize }}'

    assert (await ask(client, rate, summary))["summary"] == {
        "value": 150 / 175,
        "previous": 0.5,
        "change": 150 / 175 / 0.5 - 1,
        "sampleSize": 175,
    }
    assert (await ask(client, attempted, summary))["summary"] == {
        "value": 175,
        "previous": 100,
        "change": 0.75,
        "sampleSize": 175,
    }
    alone = f"summary(window: {AFTERNOON}) {{ value previous change }}"
    assert (await ask(client, attempted, alone))["summary"] == {
        "value": 175,
        "previous": None,
        "change": None,
    }
    much_earlier = AFTERNOON.replace("2026", "2025")
    nothing = f'summary(window: {much_earlier}, compareTo: "PT1H") {{ value previous change sampleSize }}'
    assert (await ask(client, rate, nothing))["summary"] == {
        "value": None,
        "previous": None,
        "change": None,
        "sampleSize": 0,
    }


async def test_a_series_is_split_into_its_largest_values_and_all_others(
    client_of: ClientOf, worker_db: Database
) -> None:
    account, other = await make.account(worker_db), await make.account(worker_db)
    attempted = await make.series(worker_db, account, "payments.attempted")
    of_issuer = await make.series(worker_db, account, "payments.attempted", issuer="A")
    await make.series(worker_db, other, "payments.attempted", issuer="B")
    for issuer, now, before in (("A", 60, 20), ("B", 30, 40), ("C", 5, 0), ("D", 5, 40)):
        counted = await make.series(worker_db, account, outcome="approved", issuer=issuer)
        await make.hours(worker_db, counted, before, now, from_=NOON - timedelta(hours=1))
    client = await client_of()

    found = await ask(
        client,
        attempted,
        f'breakdown(by: "issuer", top: 2, window: {AFTERNOON}, compareTo: "PT3H")'
        " { value isOther share summary { value previous change } columns { values previous }"
        " series { id } }",
    )

    assert found["breakdown"] == [
        {
            "value": "A",
            "isOther": False,
            "share": 0.6,
            "summary": {"value": 60, "previous": 20, "change": 2},
            "columns": {"values": [60, None, None], "previous": [None, None, 20]},
            "series": {"id": ids.of(of_issuer)},
        },
        {
            "value": "B",
            "isOther": False,
            "share": 0.3,
            "summary": {"value": 30, "previous": 40, "change": -0.25},
            "columns": {"values": [30, None, None], "previous": [None, None, 40]},
            "series": None,
        },
        {
            "value": None,
            "isOther": True,
            "share": 0.1,
            "summary": {"value": 10, "previous": 40, "change": -0.75},
            "columns": {"values": [10, None, None], "previous": [None, None, 40]},
            "series": None,
        },
    ]


async def test_days_are_the_accounts_and_are_compared_by_the_calendar(
    client_of: ClientOf, db: Database, worker_db: Database
) -> None:
    account = await make.account(db, time_zone="Europe/London")
    amount = await make.series(db, account, "payments.amount", outcome="approved")
    raw, source = Raw(account), (await make.source(db)).number
    begin = datetime(2026, 10, 23, 22, 30, tzinfo=UTC)
    # One an hour: half an hour of the 23rd, then days of 24 and 25 hours, and of 24 again.
    points = {
        (amount.number or 0, source, int((begin + timedelta(hours=hour)).timestamp())): Said(hour + 1.0, 0)
        for hour in range(1 + 24 + 25 + 24)
    }
    await raw.send(db, points, at=NOON)
    client = await client_of(account=account)
    window = (
        '{range: {between: {from: "2026-10-24T12:00:00Z", until: "2026-10-26T12:00:00Z"}}, resolution: DAY}'
    )
    fields = (
        f'columns(window: {window}, compareTo: "P1D") {{ start step resolution values sampleSizes previous }}'
    )
    days = [sum(range(2, 26)), sum(range(26, 51))]
    for work in (fold, rollups.roll_up):
        while await work(worker_db, NOON):
            pass
        assert (await ask(client, amount, fields))["columns"] == {
            "start": "2026-10-23T23:00:00.000Z",
            "step": "P1D",
            "resolution": "DAY",
            "values": days,
            "sampleSizes": [24, 25],
            "previous": [1, days[0]],
        }
    points_of_days = await ask(client, amount, f"points(window: {window}) {{ at value }}")
    assert points_of_days["points"] == [
        {"at": "2026-10-23T23:00:00.000Z", "value": days[0]},
        {"at": "2026-10-24T23:00:00.000Z", "value": days[1]},
    ]


async def test_percentiles_are_of_all_observations_that_are_known(
    client_of: ClientOf, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    latency = await make.series(db, account, "payments.latency")
    raw, source = Raw(account), (await make.source(db)).number
    at = int(NOON.timestamp())
    seen = [Said(100.0 * 99, 99, (100.0,) * 99), Said(6_400.0, 1, (6_400.0,)), Said(900.0, 3)]
    points = {(latency.number or 0, source, at + 60 * minute): said for minute, said in enumerate(seen)}
    await raw.send(db, points, at=NOON)
    await fold(worker_db, NOON)
    client = await client_of(account=account)
    window = AFTERNOON.replace("resolution: HOUR", "resolution: HOUR, aggregation: %s")

    async def read(aggregation: str) -> tuple[list[float | None], list[int]]:
        asked = window % aggregation
        found = await ask(client, latency, f"columns(window: {asked}) {{ values sampleSizes }}")
        return found["columns"]["values"], found["columns"]["sampleSizes"]

    mean = (100 * 99 + 6_400 + 900) / 103
    assert await read("null") == await read("MEAN") == ([mean, None, None], [103, 0, 0])
    [median, *rest], sizes = await read("P50")
    assert (median, rest, sizes) == (pytest.approx(100, rel=0.022), [None, None], [100, 0, 0])
    assert (await read("P99"))[0][0] == pytest.approx(100, rel=0.022)
    summary = await ask(
        client,
        latency,
        f"summary(window: {window % 'P99'}) {{ value sampleSize }} metric {{ name kind aggregations }}",
    )
    assert summary["summary"] == {"value": pytest.approx(100, rel=0.022), "sampleSize": 100}
    assert summary["metric"] == {
        "name": "payments.latency",
        "kind": "DISTRIBUTION",
        "aggregations": ["MEAN", "P50", "P90", "P95", "P99"],
    }


@pytest.mark.parametrize(
    ("metric", "aggregation", "allowed"),
    [
        ("payments.attempted", "P95", "SUM"),
        ("authorization_rate", "MEAN", "RATE"),
        ("payments.latency", "SUM", "MEAN, P50, P90, P95, P99"),
        ("queue.depth", "RATE", "MEAN, MIN, MAX, LAST"),
    ],
)
@pytest.mark.parametrize(
    "field", ["points { at }", "columns { start }", "summary { value }", 'breakdown(by: "x") { value }']
)
async def test_an_aggregation_that_a_series_does_not_have_is_refused_by_naming_those_that_it_has(
    client_of: ClientOf, worker_db: Database, metric: str, aggregation: str, allowed: str, field: str
) -> None:
    account = await make.account(worker_db)
    series = await make.series(worker_db, account, metric)
    client = await client_of(account=account)
    window = f'window: {{range: {{last: "PT1H"}}, aggregation: {aggregation}}}'
    asked = field.replace(")", f", {window})") if ")" in field else field.replace(" {", f"({window}) {{")

    [(code, message)] = await refusals(client, series, asked)

    assert code == "BAD_USER_INPUT"
    assert message.endswith(f"it has {allowed}.")


async def test_what_one_series_of_a_list_cannot_tell_the_others_still_do(
    client_of: ClientOf, worker_db: Database
) -> None:
    account = await make.account(worker_db)
    for metric in ("authorization_rate", "payments.latency"):
        await make.series(worker_db, account, metric)
    client = await client_of(account=account)

    result = await client.result(
        '{ series(filter: {}) { edges { node { metric { name } columns(window: {range: {last: "PT1H"},'
        " aggregation: P95, resolution: HOUR}) { values } } } } }"
    )

    nodes = [edge["node"] for edge in result["data"]["series"]["edges"]]
    assert [(one["metric"]["name"], one["columns"]) for one in nodes] == [
        ("authorization_rate", None),
        ("payments.latency", {"values": [None]}),
    ]
    assert [error["path"] for error in result["errors"]] == [["series", "edges", 0, "node", "columns"]]


@pytest.mark.parametrize(
    "field",
    [
        'breakdown(by: "issuer", top: 0) { value }',
        'breakdown(by: "issuer", top: 21) { value }',
        'breakdown(by: "issuer", window: {resolution: DAY}, compareTo: "PT12H") { summary { previous } }',
        'summary(window: {resolution: HOUR}, compareTo: "-PT1H") { value }',
        'summary(window: {resolution: HOUR}, compareTo: "PT90M") { value }',
        'summary(window: {range: {between: {from: "0001-01-01T00:00:00Z", until: "0001-01-02T00:00:00Z"}}})'
        " { value }",
        'columns(window: {range: {between: {from: "9999-12-30T00:00:00Z", until: "9999-12-31T00:00:00Z"}},'
        " resolution: DAY}) { start }",
        'columns(window: {range: {between: {from: "1969-12-30T00:00:00Z"}}, resolution: DAY}) { start }',
        'points(window: {range: {last: "P6000D"}, resolution: DAY}) { at }',
    ],
)
async def test_what_cannot_be_asked_for_is_bad_input(
    client_of: ClientOf, worker_db: Database, field: str
) -> None:
    account = await make.account(worker_db)
    series = await make.series(worker_db, account, "authorization_rate")
    client = await client_of(account=account)

    result = await client.result(
        f"query ($id: ID!) {{ node(id: $id) {{ id ... on Series {{ {field} }} }} }}", id=ids.of(series)
    )

    assert {error["extensions"]["code"] for error in result["errors"]} == {"BAD_USER_INPUT"}


@pytest.mark.parametrize("aggregation", ["MIN", "MAX", "LAST"])
async def test_what_is_read_of_minutes_is_refused_where_they_are_not_kept_or_too_many(
    client_of: ClientOf, worker_db: Database, aggregation: str
) -> None:
    account = await make.account(worker_db)
    level = await make.series(worker_db, account, "queue.depth")
    client = await client_of(account=account)

    def summary(length: str, compare_to: str = "null") -> str:
        window = f'{{range: {{last: "{length}"}}, resolution: HOUR, aggregation: {aggregation}}}'
        return f"summary(window: {window}, compareTo: {compare_to}) {{ value }}"

    assert await ask(client, level, summary("P2D")) == {"summary": {"value": None}}
    [(code, message)] = await refusals(client, level, summary("P91D"))
    assert (code, "more than 100000" in message) == ("BAD_USER_INPUT", True)
    [(code, message)] = await refusals(client, level, summary("P1D", '"P90D"'))
    assert (code, "kept since" in message) == ("BAD_USER_INPUT", True)


@pytest.mark.parametrize(
    ("range_", "compare_to", "resolution"),
    [
        ("PT6H", "null", "MINUTE"),
        ("P1D", "null", "FIVE_MINUTES"),
        ("P14D", "null", "HOUR"),
        ("P28D", "null", "DAY"),
        ("PT6H", '"P140D"', "FIVE_MINUTES"),
    ],
)
async def test_without_a_resolution_the_finest_that_fits_and_is_kept_is_told(
    client_of: ClientOf, worker_db: Database, range_: str, compare_to: str, resolution: str
) -> None:
    account = await make.account(worker_db)
    series = await make.series(worker_db, account, "authorization_rate")
    client = await client_of(account=account)

    columns = (
        f'columns(window: {{range: {{last: "{range_}"}}}}, compareTo: {compare_to}) {{ resolution values }}'
    )
    found = await ask(client, series, columns)

    assert found["columns"]["resolution"] == resolution
    assert len(found["columns"]["values"]) <= 400
