"""Mutations: each does its work once, or says why not and does nothing."""

from typing import Any

import pytest

from api.graphql import ids
from api.graphql.schema import schema
from domain.access.models import PrincipalKind
from domain.core.db import Database
from domain.insights.models import InsightStatus
from tests import make
from tests.api.conftest import ClientOf
from tests.api.worlds import World
from tests.make import NOON

MEMBERS = {
    "IncidentSuccess": """incident { id title status impact origin acknowledgedAt resolvedAt resolution
        partners { id status }
        updates { edges { node { body status author { kind name }
          affectedComponents { component { id } from to } } } } }""",
    "InsightSuccess": "insight { id status assignee appliedAction dismissal { reason note } }",
    "JobSuccess": "job { id status kind result { ... on Forecast { id } } }",
    "InvalidInput": "problems { path message }",
    "NotFound": "id",
    "Conflict": "subject { id __typename }",
}


def mutation(name: str) -> str:
    """A document with all that the members of the mutation's result have."""
    kind = f"{name[0].upper()}{name[1:]}"
    union: Any = schema._schema.type_map[f"{kind}Result"]
    members = " ".join(f"... on {one.name} {{ {MEMBERS[one.name]} }}" for one in union.types)
    selected = f"__typename ... on Refusal {{ code message }} {members}"
    return f"mutation ($input: {kind}Input!) {{ {name}(input: $input) {{ {selected} }} }}"


async def run(client: Any, name: str, **input: Any) -> dict[str, Any]:
    data = await client.ask(mutation(name), input=input)
    result: dict[str, Any] = data[name]
    return result


async def test_an_incident_is_declared_told_taken_charge_of_and_resolved(
    client_of: ClientOf, worker_db: Database
) -> None:
    partner = await make.partner(worker_db)
    client = await client_of(partner=partner)

    declared = await run(
        client, "declareIncident", title="Cards fail", body="We look into it.", impact="MAJOR",
        components=[{"componentId": ids.of(partner), "status": "PARTIAL_OUTAGE"}],
    )  # fmt: skip
    incident = declared["incident"]
    assert (incident["title"], incident["status"], incident["origin"]) == (
        "Cards fail",
        "INVESTIGATING",
        "DECLARED",
    )
    assert incident["partners"] == [{"id": ids.of(partner), "status": "PARTIAL_OUTAGE"}]
    [update] = incident["updates"]["edges"]
    assert update["node"]["affectedComponents"] == [
        {"component": {"id": ids.of(partner)}, "from": "OPERATIONAL", "to": "PARTIAL_OUTAGE"}
    ]
    assert update["node"]["author"]["kind"] == "API_KEY"

    told = await run(
        client, "postIncidentUpdate", id=incident["id"], body="Found it.", status="IDENTIFIED", impact="MINOR"
    )
    assert (told["incident"]["status"], told["incident"]["impact"]) == ("IDENTIFIED", "MINOR")
    taken = await run(client, "acknowledgeIncident", id=incident["id"])
    assert taken["incident"]["acknowledgedAt"] is not None
    ended = await run(client, "resolveIncident", id=incident["id"], body="Over.")
    assert (ended["incident"]["status"], ended["incident"]["resolution"]) == ("RESOLVED", "DECLARED")
    assert ended["incident"]["partners"] == [{"id": ids.of(partner), "status": "OPERATIONAL"}]
    bodies = [edge["node"]["body"] for edge in ended["incident"]["updates"]["edges"]]
    assert bodies == ["We look into it.", "Found it.", "Over."]
    names = [name for name, _ in await make.recorded_events(worker_db)]
    assert names == [
        "incident.opened", "incident.impact_changed", "incident.acknowledged", "incident.resolved"
    ]  # fmt: skip


async def test_resolving_again_succeeds_and_changes_nothing(client_of: ClientOf, worker_db: Database) -> None:
    incident = await make.incident(worker_db, resolved_at=NOON)
    client = await client_of()

    again = await run(client, "resolveIncident", id=ids.of(incident), body="Over.")

    assert again["incident"]["resolvedAt"] == "2026-11-23T12:00:00.000Z"
    assert await make.recorded_events(worker_db) == []


async def test_a_resolved_incident_takes_no_update_and_is_shown_as_it_is(
    client_of: ClientOf, worker_db: Database
) -> None:
    incident = await make.incident(worker_db, resolved_at=NOON)
    client = await client_of()
    for name, more in (("postIncidentUpdate", {"body": "Still."}), ("acknowledgeIncident", {})):
        refused = await run(client, name, id=ids.of(incident), **more)

        assert (refused["__typename"], refused["code"]) == ("Conflict", "WRONG_STATE")
        assert refused["message"] == "The incident was resolved at 2026-11-23T12:00:00Z."
        assert refused["subject"] == {"id": ids.of(incident), "__typename": "Incident"}
    assert await make.recorded_events(worker_db) == []


async def test_declaring_what_is_declared_answers_with_the_live_incident(
    client_of: ClientOf, worker_db: Database
) -> None:
    service = await make.service(worker_db)
    client = await client_of()
    input = {
        "title": "Slow", "body": "It is slow.", "impact": "MINOR",
        "components": [{"componentId": ids.of(service), "status": "DEGRADED_PERFORMANCE"}],
    }  # fmt: skip
    first = await run(client, "declareIncident", **input)
    recorded = await make.recorded_events(worker_db)

    second = await run(client, "declareIncident", **input)

    assert (second["__typename"], second["code"]) == ("Conflict", "WRONG_STATE")
    assert second["subject"]["id"] == first["incident"]["id"]
    assert await make.recorded_events(worker_db) == recorded


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"title": ""}, ["title"]),
        ({"body": " "}, ["body"]),
        ({"components": []}, ["components"]),
        (
            {"components": [{"componentId": "x", "status": "MAJOR_OUTAGE"}]},
            ["components", "0", "componentId"],
        ),
        ({"status": "RESOLVED"}, ["status"]),
        ({"startedAt": "2999-01-01T00:00:00Z"}, ["startedAt"]),
        ({"groupingKey": "account:x"}, ["groupingKey"]),
        ({"idempotencyKey": "k" * 256}, ["idempotencyKey"]),
        ({"title": "a\x00b"}, ["title"]),
    ],
)
async def test_an_input_that_cannot_be_used_is_named_and_nothing_is_done(
    client_of: ClientOf, worker_db: Database, change: dict[str, Any], path: list[str]
) -> None:
    service = await make.service(worker_db)
    client = await client_of()
    input = {
        "title": "Slow", "body": "It is slow.", "impact": "MINOR",
        "components": [{"componentId": ids.of(service), "status": "DEGRADED_PERFORMANCE"}],
    }  # fmt: skip

    refused = await run(client, "declareIncident", **input | change)

    assert (refused["__typename"], refused["code"]) == ("InvalidInput", "INVALID_INPUT")
    assert [problem["path"] for problem in refused["problems"]] == [path]
    assert await make.recorded_events(worker_db) == []


async def test_an_end_is_not_posted_as_an_update(client_of: ClientOf, worker_db: Database) -> None:
    incident = await make.incident(worker_db)
    client = await client_of()

    refused = await run(client, "postIncidentUpdate", id=ids.of(incident), body="Over.", status="RESOLVED")

    assert refused["problems"][0]["path"] == ["status"]


async def test_the_same_idempotency_key_and_input_give_the_first_incident_again(
    client_of: ClientOf, worker_db: Database
) -> None:
    service, other = await make.service(worker_db), await make.service(worker_db)
    client = await client_of()
    input: dict[str, Any] = {
        "title": "Slow", "body": "It is slow.", "impact": "MINOR", "idempotencyKey": "once",
        "components": [{"componentId": ids.of(service), "status": "DEGRADED_PERFORMANCE"}],
    }  # fmt: skip
    first = await run(client, "declareIncident", **input)
    recorded = await make.recorded_events(worker_db)

    assert await run(client, "declareIncident", **input) == first
    reused = await run(client, "declareIncident", **input | {"title": "Other"})
    assert (reused["__typename"], reused["code"]) == ("Conflict", "IDEMPOTENCY_KEY_REUSED")
    assert await make.recorded_events(worker_db) == recorded
    posted: dict[str, Any] = {"id": first["incident"]["id"], "body": "More.", "idempotencyKey": "p"}
    for _ in range(2):
        told = await run(client, "postIncidentUpdate", **posted)
        assert len(told["incident"]["updates"]["edges"]) == 2
    assert other.name


async def test_an_insight_is_accepted_applied_or_dismissed(client_of: ClientOf, worker_db: Database) -> None:
    world = await World.begin(worker_db)
    insight = (await world.settle("Ana", money=7)).insight
    other = (await world.settle("Ben", money=8)).insight
    client = await client_of()
    id = ids.of(insight)

    accepted = await run(client, "acknowledgeInsight", id=id)
    assert accepted["insight"]["status"] == "ACCEPTED"
    assert accepted["insight"]["assignee"].startswith("key ")
    unknown = await run(client, "completeInsight", id=id, actionKey="nope")
    assert unknown["problems"][0]["path"] == ["actionKey"]
    applied = await run(client, "completeInsight", id=id, actionKey="route")
    assert (applied["insight"]["status"], applied["insight"]["appliedAction"]) == ("APPLIED", "route")
    closed = await run(client, "dismissInsight", id=id, reason="WRONG")
    assert (closed["__typename"], closed["code"]) == ("Conflict", "WRONG_STATE")
    assert closed["subject"] == {"id": id, "__typename": "Insight"}
    dismissed = await run(client, "dismissInsight", id=ids.of(other), reason="TOO_SMALL", note="Not now.")
    assert dismissed["insight"]["status"] == "DISMISSED"
    assert dismissed["insight"]["dismissal"] == {"reason": "TOO_SMALL", "note": "Not now."}


async def test_an_expired_insight_is_a_conflict(client_of: ClientOf, worker_db: Database) -> None:
    account = await make.account(worker_db)
    insight = await make.insight(worker_db, account, status=InsightStatus.EXPIRED)
    client = await client_of(account=account)

    assert (await run(client, "acknowledgeInsight", id=ids.of(insight)))["__typename"] == "Conflict"


async def test_a_forecast_is_asked_for_once(client_of: ClientOf, worker_db: Database) -> None:
    account = await make.account(worker_db)
    rate = await make.series(worker_db, account, "authorization_rate")
    counted = await make.series(worker_db, account, outcome="approved")
    client = await client_of(account=account)

    first = await run(client, "requestForecast", seriesId=ids.of(rate))
    second = await run(client, "requestForecast", seriesId=ids.of(rate))
    measured = await run(client, "requestForecast", seriesId=ids.of(counted))
    endless = await run(client, "requestForecast", seriesId=ids.of(rate), horizon="P15D")

    assert first["job"] == {"id": first["job"]["id"], "status": "QUEUED", "kind": "FORECAST", "result": None}
    assert second == first
    assert measured["problems"][0]["path"] == ["seriesId"]
    assert endless["problems"][0]["path"] == ["horizon"]
    assert [name for name, _ in await make.recorded_events(worker_db)] == ["forecast.requested"]
    node = await client.ask(
        "query ($id: ID!) { node(id: $id) { ... on Job { id status } } }", id=first["job"]["id"]
    )
    assert node["node"]["status"] == "QUEUED"


@pytest.mark.parametrize(
    "name", ["postIncidentUpdate", "resolveIncident", "acknowledgeIncident", "acknowledgeInsight"]
)
@pytest.mark.parametrize("id", ["x", "", "SW5jaWRlbnQ6eA", "\x00"])
async def test_an_id_that_is_none_is_not_found(client_of: ClientOf, name: str, id: str) -> None:
    client = await client_of()
    more = {"body": "Text."} if name in ("postIncidentUpdate", "resolveIncident") else {}

    refused = await run(client, name, id=id, **more)

    assert (refused["__typename"], refused["code"], refused["id"]) == ("NotFound", "NOT_FOUND", id)


async def test_who_may_not_write_is_forbidden(client_of: ClientOf, worker_db: Database) -> None:
    incident = await make.incident(worker_db)
    account = await make.account(worker_db)
    readers = [
        await client_of(account=account),
        await client_of(kind=PrincipalKind.OPERATOR, scopes=["incidents:read"]),
    ]
    for client in readers:
        codes = await client.codes(mutation("acknowledgeIncident"), input={"id": ids.of(incident)})

        assert codes == ["FORBIDDEN"]
    assert await make.recorded_events(worker_db) == []


async def test_mutations_of_a_document_run_in_order_and_each_stands_alone(
    client_of: ClientOf, worker_db: Database
) -> None:
    incident = await make.incident(worker_db)
    client = await client_of()

    data = await client.ask(
        """
        mutation ($id: ID!) {
          a: postIncidentUpdate(input: {id: $id, body: "One."}) { ...Bodies }
          b: postIncidentUpdate(input: {id: $id, body: ""}) { __typename }
          c: postIncidentUpdate(input: {id: $id, body: "Two."}) { ...Bodies }
        }
        fragment Bodies on IncidentSuccess { incident { updates { edges { node { body } } } } }
        """,
        id=ids.of(incident),
    )

    bodies = [
        [edge["node"]["body"] for edge in data[name]["incident"]["updates"]["edges"]] for name in ("a", "c")
    ]
    assert bodies == [["One."], ["One.", "Two."]]
    assert data["b"] == {"__typename": "InvalidInput"}
