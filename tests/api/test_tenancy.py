"""No principal learns of another's: by no root, id, filter or cursor, nor from how replies change."""

import base64
import json
from itertools import product
from typing import Any

import pytest
from sqlalchemy import true

from api.graphql import ids
from domain.access.models import PrincipalKind
from domain.anomalies import queries as anomalies
from domain.catalog import queries as catalog
from domain.core.db import Database
from domain.forecasts import queries as forecasts
from domain.incidents import queries as incidents
from domain.insights import queries as insights
from domain.telemetry import queries as telemetry
from tests import make
from tests.api.conftest import ClientOf
from tests.api.worlds import EVERYTHING, Tenant, World

ANA, BEN = 700_700_701, 800_800_801


def traces(tenant: Tenant, name: str, money: int) -> list[str]:
    """What a reply about a tenant would hold."""
    keys = [str(key) for key in tenant.rows.values()]
    coded = [ids.encode(kind, key) for kind, key in tenant.rows.items()]
    return [name, *keys, *coded, *[str(money + n) for n in range(3)], str(money / 7)]


def clear(text: str) -> str:
    """A reply with the cursors in it as they read once decoded, after the reply itself."""
    found = [value for value in _texts(json.loads(text)) if len(value) % 4 == 0]
    return text + " ".join(_decoded(value) for value in found)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text).decode()
    except ValueError:
        return ""


async def test_a_reply_is_the_same_bytes_whoever_else_is_on_the_platform(
    client_of: ClientOf, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    asking = {
        "merchant": await client_of(account=ana.account),
        "partner": await client_of(partner=world.partner),
        "ingest": await client_of(kind=PrincipalKind.INGEST),
    }
    before = {who: (await client.post(EVERYTHING)).content for who, client in asking.items()}

    await world.settle("Ben", money=BEN)

    assert {who: (await client.post(EVERYTHING)).content for who, client in asking.items()} == before


async def test_nothing_of_another_account_is_in_any_reply(client_of: ClientOf, worker_db: Database) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    ben = await world.settle("Ben", money=BEN)
    seen = {
        "ana": clear((await (await client_of(account=ana.account)).post(EVERYTHING)).text),
        "ben": clear((await (await client_of(account=ben.account)).post(EVERYTHING)).text),
        "partner": clear((await (await client_of(partner=world.partner)).post(EVERYTHING)).text),
        "operator": clear((await (await client_of()).post(EVERYTHING)).text),
    }
    of_ana, of_ben = traces(ana, "Ana", ANA), traces(ben, "Ben", BEN)

    for trace in of_ben:
        assert trace not in seen["ana"]
    for trace in of_ana:
        assert trace not in seen["ben"]
    for trace in (*of_ana, *of_ben):
        assert trace not in seen["partner"]
    for who in ("ana", "ben", "partner", "operator"):
        assert ids.of(world.incident) in seen[who]
        assert "errors" not in json.loads(seen[who][: seen[who].rindex("}") + 1])
    # The search finds what there is to find.
    assert {"Ana", ids.of(ana.account), str(ANA), str(ANA / 7)} <= {t for t in of_ana if t in seen["ana"]}
    assert {t for t in of_ben if t in seen["operator"]} >= {"Ben", str(BEN), ids.of(ben.incident)}


async def test_the_database_alone_keeps_tenants_apart(
    client_of: ClientOf, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    asking = [await client_of(account=ana.account), await client_of(partner=world.partner)]
    with_filters = [(await client.post(EVERYTHING)).content for client in asking]
    ben = await world.settle("Ben", money=BEN)
    for module in (catalog, telemetry, forecasts, anomalies, incidents, insights):
        for name in vars(module).copy():
            if name.startswith("visible"):
                monkeypatch.setattr(module, name, lambda *_: true())

    without = [(await client.post(EVERYTHING)).content for client in asking]

    assert without == with_filters
    for reply, trace in product(without, traces(ben, "Ben", BEN)):
        assert trace not in clear(reply.decode())


async def test_another_accounts_ids_name_nothing(client_of: ClientOf, worker_db: Database) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    ben = await world.settle("Ben", money=BEN)
    other = await make.partner(worker_db)
    for client in (await client_of(account=ana.account), await client_of(partner=other)):
        hidden = [ids.encode(kind, key) for kind, key in ben.rows.items()]
        nodes = await client.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=hidden)
        assert nodes == {"nodes": [None] * len(hidden)}
        for root, kind in (("account", "Account"), ("incident", "Incident"), ("insight", "Insight")):
            query = f"query ($id: ID!) {{ {root}(id: $id) {{ id }} }}"
            assert await client.ask(query, id=ids.encode(kind, ben.rows[kind])) == {root: None}


async def test_a_filter_by_another_accounts_ids_matches_nothing(
    client_of: ClientOf, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    ben = await world.settle("Ben", money=BEN)
    client = await client_of(account=ana.account)

    data = await client.ask(
        """
        query ($account: ID!, $external: String!) {
          accounts(filter: {externalIds: [$external]}) { edges { cursor } }
          below: accounts(filter: {parentId: $account}) { edges { cursor } }
          series(filter: {accountIds: [$account]}) { edges { cursor } }
          incidents(filter: {accountIds: [$account]}) { edges { cursor } }
          insights(filter: {accountIds: [$account]}) { edges { cursor } }
          incidentEvents(filter: {accountIds: [$account]}) { edges { cursor } }
        }
        """,
        account=ids.of(ben.account),
        external=ben.account.external_id,
    )

    assert all(found == {"edges": []} for found in data.values())


MUTATIONS = {
    "acknowledgeInsight": ("Insight", "{id: $id}"),
    "dismissInsight": ("Insight", "{id: $id, reason: WRONG}"),
    "completeInsight": ("Insight", '{id: $id, actionKey: "route"}'),
    "requestForecast": ("Series", "{seriesId: $id}"),
}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_another_accounts_objects_cannot_be_changed(
    client_of: ClientOf, worker_db: Database, name: str
) -> None:
    world = await World.begin(worker_db)
    ana = await world.settle("Ana", money=ANA)
    ben = await world.settle("Ben", money=BEN)
    kind, argument = MUTATIONS[name]
    client = await client_of(account=ana.account)
    hidden = ids.encode(kind, ben.rows[kind])
    recorded = await make.recorded_events(worker_db)

    query = (
        f"mutation ($id: ID!) {{ {name}(input: {argument}) {{ __typename ... on NotFound {{ code id }} }} }}"
    )
    data = await client.ask(query, id=hidden)

    assert data == {name: {"__typename": "NotFound", "code": "NOT_FOUND", "id": hidden}}
    assert await make.recorded_events(worker_db) == recorded


@pytest.mark.parametrize("name", ["postIncidentUpdate", "resolveIncident", "acknowledgeIncident"])
async def test_a_partner_cannot_change_an_incident_that_is_not_about_it(
    client_of: ClientOf, worker_db: Database, name: str
) -> None:
    world = await World.begin(worker_db)
    other = await make.partner(worker_db)
    client = await client_of(partner=other)
    argument = '{id: $id, body: "Mine now."}' if name != "acknowledgeIncident" else "{id: $id}"
    recorded = await make.recorded_events(worker_db)

    query = f"mutation ($id: ID!) {{ {name}(input: {argument}) {{ __typename }} }}"
    data = await client.ask(query, id=ids.of(world.incident))

    assert data == {name: {"__typename": "NotFound"}}
    assert await make.recorded_events(worker_db) == recorded


async def test_a_parent_account_sees_those_below_it_and_they_do_not_see_it(
    client_of: ClientOf, worker_db: Database
) -> None:
    above = await make.account(worker_db)
    below = await make.account(worker_db, parent=above)
    query = "{ accounts { edges { node { id parent { id } children { edges { node { id } } } } } } }"

    top = await (await client_of(account=above)).ask(query)
    bottom = await (await client_of(account=below)).ask(query)

    assert {edge["node"]["id"] for edge in top["accounts"]["edges"]} == {ids.of(above), ids.of(below)}
    assert bottom == {
        "accounts": {"edges": [{"node": {"id": ids.of(below), "parent": None, "children": {"edges": []}}}]}
    }
