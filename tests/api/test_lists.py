"""Lists: how they page, narrow and order, and that their statements do not grow with their length."""

from typing import Any

import pytest

from api.graphql import ids
from domain.core.db import Database
from domain.incidents.models import Impact
from tests import make
from tests.api.conftest import Api, Client, ClientOf
from tests.api.worlds import EVERYTHING, World
from tests.make import NOON

LISTS = {
    "accounts": "accounts { edges { node { id parent { id } children(first: 3) { edges { node { id } } }"
    " dependencies { totalCount edges { node { id } } } series(first: 2) { edges { node { id } } }"
    " incidents(first: 2) { edges { node { id } } } insights(first: 2) { edges { node { id } } } } } }",
    "services": "services { edges { node { id incidents(last: 2) { edges { node { id } } } } } }",
    "partners": "partners { edges { node { id incidents(first: 2) { edges { node { id } } } } } }",
    "series": "series(filter: {}) { edges { node { id account { id } freshness { state } forecast { id }"
    " anomalies { edges { node { id incident { id } series { id } } } }"
    ' points(window: {range: {last: "PT1H"}, resolution: MINUTE}) { value }'
    ' columns(window: {range: {last: "P1D"}, resolution: HOUR}, compareTo: "P1D") { values }'
    ' summary(window: {range: {last: "P7D"}, resolution: DAY}, compareTo: "P7D") { value change }'
    ' breakdown(by: "issuer", compareTo: "P1D") { value share summary { value previous }'
    " columns { values previous } series { id } } } } }",
    "incidents": "incidents { edges { node { id moneyAtRisk { mid } services { id } partners { id }"
    " accounts(first: 2) { totalCount edges { node { id } } }"
    " updates(last: 3) { edges { node { id incident { id } affectedComponents { component { id } } } } }"
    " anomalies { edges { node { id series { id } } } } insights { edges { node { id } } } } } }",
    "insights": "insights { edges { node { id account { id } component { id } incident { id }"
    " evidence { series { id } } } } }",
    "incidentEvents": "incidentEvents { edges { node { incident { id } update { id } } } }",
}


async def statements(api: Api, client: Client, query: str) -> int:
    with api.statements() as sent:
        await client.ask(query)
    return len(sent)


async def test_the_statements_for_a_list_are_as_many_for_one_row_as_for_several(
    api: Api, client_of: ClientOf, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    await world.settle("Ana", money=7)
    client = await client_of()
    api.remember_keys()
    await client.ask("{ viewer { kind } }")
    queries = {name: f"{{ {query} }}" for name, query in LISTS.items()} | {"everything": EVERYTHING}
    one = {name: await statements(api, client, query) for name, query in queries.items()}
    other = await World.begin(worker_db)
    for number, name in enumerate(("Ben", "Cleo", "Dan")):
        await world.settle(name, money=number)
        await other.settle(f"{name} again", money=number)

    several = {name: await statements(api, client, query) for name, query in queries.items()}

    assert several == one
    assert one["incidents"] <= 16


async def test_pages_neither_skip_nor_repeat_in_either_direction(
    client_of: ClientOf, worker_db: Database
) -> None:
    names = ["Ana", "Ben", "Ben", "Ben", "Cleo", "Dan", "Eve"]
    rows = [await make.account(worker_db, name=name) for name in names]
    wanted = [ids.of(row) for row in sorted(rows, key=lambda row: (row.name, row.id))]
    client = await client_of()

    async def walk(size: str, cursor: str, edge: str, more: str) -> list[str]:
        seen: list[str] = []
        place = None
        while True:
            data = await client.ask(
                f"query ($n: Int, $c: String) {{ accounts({size}: $n, {cursor}: $c)"
                f" {{ pageInfo {{ {more} {edge} }} edges {{ node {{ id }} }} }} }}",
                n=2,
                c=place,
            )
            page = [one["node"]["id"] for one in data["accounts"]["edges"]]
            seen = page + seen if size == "last" else seen + page
            place = data["accounts"]["pageInfo"][edge]
            if not data["accounts"]["pageInfo"][more]:
                return seen

    assert await walk("first", "after", "endCursor", "hasNextPage") == wanted
    assert await walk("last", "before", "startCursor", "hasPreviousPage") == wanted


async def test_the_pages_of_many_parents_lists_are_those_of_each(
    client_of: ClientOf, worker_db: Database
) -> None:
    incidents = [await make.incident(worker_db) for _ in range(3)]
    bodies = {
        ids.of(one): [f"{index} of {place}" for index in range(4)] for place, one in enumerate(incidents)
    }
    for incident in incidents:
        for body in bodies[ids.of(incident)]:
            await make.update(worker_db, incident, body=body)
    client = await client_of()

    data = await client.ask(
        "{ incidents { edges { node { id latest: updates(last: 2) { pageInfo { hasPreviousPage startCursor }"
        " edges { node { body } } } } } } }"
    )

    for edge in data["incidents"]["edges"]:
        latest, wanted = edge["node"]["latest"], bodies[edge["node"]["id"]]
        assert [one["node"]["body"] for one in latest["edges"]] == wanted[2:]
        assert latest["pageInfo"]["hasPreviousPage"] is True
        older = await client.ask(
            "query ($id: ID!, $c: String) { incident(id: $id) { updates(last: 2, before: $c)"
            " { pageInfo { hasPreviousPage } edges { node { body } } } } }",
            id=edge["node"]["id"],
            c=latest["pageInfo"]["startCursor"],
        )
        page = older["incident"]["updates"]
        assert [one["node"]["body"] for one in page["edges"]] == wanted[:2]
        assert page["pageInfo"]["hasPreviousPage"] is False


async def found(client: Client, filter: str, order: str = "{}") -> list[str]:
    data = await client.ask(
        f"{{ incidents(filter: {filter}, orderBy: {order}) {{ edges {{ node {{ title }} }} }} }}"
    )
    return [edge["node"]["title"] for edge in data["incidents"]["edges"]]


async def test_incidents_are_narrowed_by_every_field_of_the_filter(
    client_of: ClientOf, worker_db: Database
) -> None:
    account, partner = await make.account(worker_db), await make.partner(worker_db)
    service = await make.service(worker_db)
    await make.incident(
        worker_db, title="over", resolved_at=NOON, started_at=make.NOON.replace(hour=9), impact=Impact.MINOR
    )
    told = await make.incident(
        worker_db, title="told", accounts=[account], partners=[partner], grouping_key="mine"
    )
    await make.update(worker_db, told, body="The cable was cut (50% of it).")
    await make.incident(worker_db, title="other", services=[service], impact=Impact.CRITICAL)
    client = await client_of()
    of_account, of_partner, of_service = (f'"{ids.of(row)}"' for row in (account, partner, service))

    assert await found(client, "{}") == ["other", "told", "over"]
    assert await found(client, "{isOpen: true}") == ["other", "told"]
    assert await found(client, "{isOpen: false}") == ["over"]
    assert await found(client, "{statuses: [RESOLVED]}") == ["over"]
    assert await found(client, "{statuses: []}") == []
    assert await found(client, "{impacts: [CRITICAL, MINOR]}") == ["other", "over"]
    assert await found(client, f"{{accountIds: [{of_account}]}}") == ["told"]
    assert await found(client, f"{{componentIds: [{of_partner}, {of_service}]}}") == ["other", "told"]
    assert await found(client, f'{{componentIds: [{of_account}, "x"]}}') == []
    assert await found(client, '{groupingKeys: ["mine"]}') == ["told"]
    assert await found(client, '{search: "CABLE 50%"}') == ["told"]
    assert await found(client, '{search: "cable 51%"}') == []
    before_noon = '{during: {between: {from: "2026-11-23T08:00:00Z", until: "2026-11-23T10:00:00Z"}}}'
    assert await found(client, before_noon) == ["over"]
    assert await found(client, "{isOpen: true, impacts: [MINOR]}") == []


async def test_incidents_are_ordered_as_asked(client_of: ClientOf, worker_db: Database) -> None:
    for place, impact in enumerate((Impact.MINOR, Impact.CRITICAL, Impact.NONE)):
        at = make.NOON.replace(minute=place)
        await make.incident(
            worker_db, title=impact, impact=impact, started_at=at, updated_at=at.replace(second=30 - place)
        )
    client = await client_of()

    assert await found(client, "{}", "{field: IMPACT}") == ["CRITICAL", "MINOR", "NONE"]
    assert await found(client, "{}", "{field: IMPACT, direction: ASC}") == ["NONE", "MINOR", "CRITICAL"]
    assert await found(client, "{}", "{field: UPDATED_AT, direction: ASC}") == ["MINOR", "CRITICAL", "NONE"]


async def test_series_are_found_by_labels_and_by_what_they_fix(
    client_of: ClientOf, worker_db: Database
) -> None:
    account = await make.account(worker_db)
    await make.series(worker_db, account, "authorization_rate")
    await make.series(worker_db, account, "authorization_rate", issuer="A")
    await make.series(worker_db, account, "authorization_rate", issuer="B")
    await make.series(worker_db, account, "authorization_rate", issuer="A", method="card")
    await make.series(worker_db, account, "payments.attempted")
    client = await client_of(account=account)

    async def labels(filter: str) -> list[dict[str, str]]:
        data = await client.ask(
            f"{{ series(filter: {filter}) {{ edges {{ node {{ labels {{ key value }} }} }} }} }}"
        )
        return [
            {one["key"]: one["value"] for one in edge["node"]["labels"]} for edge in data["series"]["edges"]
        ]

    rate = 'metrics: ["authorization_rate"]'
    assert await labels(f"{{{rate}, dimensions: []}}") == [{}]
    assert await labels(f'{{{rate}, dimensions: ["issuer"]}}') == [{"issuer": "A"}, {"issuer": "B"}]
    both = [{"issuer": "A", "method": "card"}]
    assert await labels(f'{{{rate}, dimensions: ["method", "issuer"]}}') == both
    assert await labels(f'{{{rate}, labels: [{{key: "issuer", values: ["A"]}}]}}') == [{"issuer": "A"}, *both]
    not_a = f'{{{rate}, labels: [{{key: "issuer", operator: NOT_IN, values: ["A"]}}]}}'
    assert await labels(not_a) == [{}, {"issuer": "B"}]
    assert len(await labels("{}")) == 5
    assert await labels("{metrics: []}") == []


async def test_a_series_is_read_as_points_and_as_columns(client_of: ClientOf, worker_db: Database) -> None:
    account = await make.account(worker_db)
    rate = await make.series(worker_db, account, "authorization_rate")
    for outcome, values in (("approved", (80, 0, 45)), ("declined", (20, 0, 5))):
        counted = await make.series(worker_db, account, outcome=outcome)
        await make.hours(worker_db, counted, *values, from_=NOON)
    client = await client_of(account=account)
    window = (
        '{range: {between: {from: "2026-11-23T12:00:00Z", until: "2026-11-23T16:00:00Z"}}, resolution: HOUR}'
    )

    data = await client.ask(
        f"query ($id: ID!) {{ node(id: $id) {{ ... on Series {{"
        f" points(window: {window}) {{ at value sampleSize }}"
        f' columns(window: {window}, compareTo: "PT2H")'
        " { start step resolution values sampleSizes previous } } } }",
        id=ids.of(rate),
    )

    assert data["node"]["points"] == [
        {"at": "2026-11-23T12:00:00.000Z", "value": 0.8, "sampleSize": 100},
        {"at": "2026-11-23T14:00:00.000Z", "value": 0.9, "sampleSize": 50},
    ]
    assert data["node"]["columns"] == {
        "start": "2026-11-23T12:00:00.000Z",
        "step": "PT1H",
        "resolution": "HOUR",
        "values": [0.8, None, 0.9, None],
        "sampleSizes": [100, 0, 50, 0],
        "previous": [None, None, 0.8, None],
    }


@pytest.mark.parametrize(
    "field",
    [
        'points(window: {range: {last: "P30D"}, resolution: MINUTE}) { at }',
        'columns(window: {range: {last: "P400D"}, resolution: MINUTE}) { start }',
        'columns(window: {range: {last: "P1D"}, resolution: HOUR}, compareTo: "PT30M") { start }',
        'columns(window: {range: {last: "P1D"}}, compareTo: "PT0S") { start }',
        'columns(window: {range: {last: "PT0S"}}) { start }',
        'columns(window: {range: {last: "P99999D"}}) { start }',
        'columns(window: {range: {between: {from: "2026-11-23T12:00:00Z", until: "2026-11-23T11:00:00Z"}}})'
        " { start }",
        'columns(window: {range: {last: "P1D", between: {from: "2026-11-23T12:00:00Z"}}}) { start }',
        "columns(window: {range: {}}) { start }",
        'columns(window: {range: {last: "P99999D"}}, compareTo: "P99999D") { start }',
    ],
)
async def test_a_window_that_cannot_be_read_is_bad_input(
    client_of: ClientOf, worker_db: Database, field: str
) -> None:
    account = await make.account(worker_db)
    series = await make.series(worker_db, account, "authorization_rate")
    client = await client_of(account=account)

    result: dict[str, Any] = await client.result(
        f"query ($id: ID!) {{ node(id: $id) {{ id ... on Series {{ {field} }} }} }}", id=ids.of(series)
    )

    assert {error["extensions"]["code"] for error in result["errors"]} == {"BAD_USER_INPUT"}


async def test_nodes_come_in_the_order_of_their_ids_in_a_fixed_number_of_statements(
    api: Api, client_of: ClientOf, worker_db: Database
) -> None:
    rows = [await make.account(worker_db) for _ in range(3)] + [await make.partner(worker_db)]
    wanted = [ids.of(row) for row in reversed(rows)]
    client = await client_of()
    api.remember_keys()
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    await client.ask("{ viewer { kind } }")

    with api.statements() as sent:
        data = await client.ask(query, ids=[*wanted, "x", wanted[0]])

    assert [node and node["id"] for node in data["nodes"]] == [*wanted, None, wanted[0]]
    assert len(sent) == 3
    assert await client.codes(query, ids=["x"] * 101) == ["BAD_USER_INPUT"]
