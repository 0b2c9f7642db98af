"""What a request over HTTP may look like, and what its reply gives away."""

import gzip
import json
from itertools import product

import asyncpg
import httpx
import pytest

from api.graphql import http as http_door
from domain.access.models import PrincipalKind
from domain.core.db import Database
from tests import make
from tests.api.conftest import Api, ClientOf

NEW, OLD = "application/graphql-response+json", "application/json"
VIEWER = "{ viewer { kind } }"


async def test_a_document_is_answered(client_of: ClientOf) -> None:
    client = await client_of()

    reply = await client.post(VIEWER)

    assert (reply.status_code, reply.json()) == (200, {"data": {"viewer": {"kind": "OPERATOR"}}})
    assert reply.headers["content-type"] == OLD


async def test_the_anonymous_learn_nothing(http: httpx.AsyncClient) -> None:
    queries = [VIEWER, "{ __schema { types { name } } }", "{ viewr }", "{", ""]
    for query, authorization in product(
        queries, [None, "", "Bearer", "Bearer vk_x", "Basic abc", "Bearer ü"]
    ):
        headers = {} if authorization is None else {"authorization": authorization.encode()}

        reply = await http.post("/graphql", json={"query": query}, headers=headers)

        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        [error] = reply.json()["errors"]
        assert error["message"] == "The credential is missing, unknown, revoked or expired."
        assert error["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/", "/graphiql"])
async def test_there_is_no_page_to_explore_with(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path, headers={"accept": "text/html"})).status_code == 404


async def test_every_reply_carries_the_request_id(http: httpx.AsyncClient, client_of: ClientOf) -> None:
    client = await client_of()

    for path in ("/livez", "/nowhere", "/graphql"):
        assert len((await http.get(path)).headers["x-request-id"]) == 32
    for given, kept in (("abc-1.2_3", True), ("x" * 101, False), ("a b", False), ('"<', False)):
        reply = await http.get("/livez", headers={"x-request-id": given})
        assert (reply.headers["x-request-id"] == given) is kept
    failed = await http.post(
        "/graphql", json={"query": "{ nope }"}, headers={**client.headers, "x-request-id": "mine"}
    )
    assert failed.json()["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "requestId": "mine"}


BODIES = [
    b"", b"null", b"1", b'"x"', b"[]", b"[1]", b'[{"query":"{ viewer { kind } }"}]', b"{", b"{}",
    b'{"query":null}',
    b'{"query":1}', b'{"query":["a"]}', b'{"query":"{ viewer { kind } }","variables":1}',
    b'{"query":"{ viewer { kind } }","variables":[]}', b'{"query":"{ viewer { kind } }","operationName":{}}',
    b'{"query":"{ viewer { kind } }","extensions":"x"}', b'{"query":"\xff\xfe"}', b'\xff\xfe{}',
    b'{"query":"\\ud800"}',
    b"[" * 100_000, b'{"a":' * 40_000, b'{"variables":' + b'{"a":' * 40_000,
    b'{"query":"{ viewer { kind } }","variables":{"a":' + b"9" * 5_000 + b"}}",
    b'{"query":"{ viewer { kind } }","variables":{"a":NaN}}', b'{"query":"","variables":{}}',
    gzip.compress(b'{"query":"{ viewer { kind } }"}'),
]  # fmt: skip


@pytest.mark.parametrize("accept", [NEW, OLD])
async def test_a_malformed_body_is_the_clients_fault(client_of: ClientOf, accept: str) -> None:
    client = await client_of()
    headers = {**client.headers, "content-type": "application/json", "accept": accept}
    for body in BODIES:
        reply = await client.http.post("/graphql", content=body, headers=headers)

        assert (reply.status_code, body[:60]) == (400, body[:60])
        [error] = reply.json()["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert "data" not in reply.json()
        for word in ("Traceback", "msgspec", "codec", "strawberry", "File "):
            assert word not in reply.text


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json; charset=utf-16", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
        ("", 415),
    ],
)
async def test_a_body_is_json_in_utf8(client_of: ClientOf, content_type: str, status: int) -> None:
    client = await client_of()
    headers = {**client.headers, "content-type": content_type}

    reply = await client.http.post("/graphql", content=json.dumps({"query": VIEWER}), headers=headers)

    assert reply.status_code == status


async def test_a_large_body_is_refused(client_of: ClientOf) -> None:
    client = await client_of()

    reply = await client.post(VIEWER + " " * 300_000)

    assert reply.status_code == 413


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        (NEW, 200, NEW), (OLD, 200, OLD), (f"{NEW}, {OLD};q=0.9", 200, NEW), ("*/*", 200, OLD),
        ("application/*", 200, OLD),
        ("text/html", 406, OLD),
    ],
)  # fmt: skip
async def test_the_reply_is_of_a_type_that_is_accepted(
    client_of: ClientOf, accept: str, status: int, content_type: str
) -> None:
    client = await client_of()

    reply = await client.http.post(
        "/graphql", json={"query": VIEWER}, headers={**client.headers, "accept": accept}
    )

    assert (reply.status_code, reply.headers["content-type"]) == (status, content_type)


@pytest.mark.parametrize(
    "query", ["{", "{ nope }", "query A { viewer { kind } } query B { viewer { kind } }"]
)
async def test_a_document_that_is_not_executed_is_a_400_in_the_new_type(
    client_of: ClientOf, query: str
) -> None:
    client = await client_of()

    reply = await client.http.post(
        "/graphql", json={"query": query}, headers={**client.headers, "accept": NEW}
    )

    assert reply.status_code == 400
    assert reply.json().get("data") is None
    assert reply.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_variables_of_the_wrong_type_are_named(client_of: ClientOf) -> None:
    client = await client_of()

    result = await client.result("query ($n: Int!) { accounts(first: $n) { pageInfo { endCursor } } }", n="x")

    assert result["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert "$n" in result["errors"][0]["message"]


async def test_a_query_can_be_asked_by_get_and_a_mutation_cannot(client_of: ClientOf, db: Database) -> None:
    client = await client_of()
    mutation = 'mutation { acknowledgeIncident(input: {id: "x"}) { __typename } }'

    asked = await client.http.get("/graphql", params={"query": VIEWER}, headers=client.headers)
    with_variables = await client.http.get(
        "/graphql",
        params={
            "query": "query ($id: ID!) { node(id: $id) { id } }",
            "variables": '{"id": "x"}',
        },
        headers=client.headers,
    )
    changed = await client.http.get("/graphql", params={"query": mutation}, headers=client.headers)

    assert asked.json() == {"data": {"viewer": {"kind": "OPERATOR"}}}
    assert with_variables.json() == {"data": {"node": None}}
    assert (changed.status_code, changed.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "params", [{}, {"query": VIEWER, "variables": "{"}, {"query": VIEWER, "variables": "1"}]
)
async def test_a_malformed_query_string_is_the_clients_fault(
    client_of: ClientOf, params: dict[str, str]
) -> None:
    client = await client_of()

    reply = await client.http.get("/graphql", params=params, headers=client.headers)

    assert reply.status_code == 400


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_other_methods_are_refused(http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, "/graphql")).status_code in (401, 405)


async def test_a_foreign_page_is_given_no_access(http: httpx.AsyncClient) -> None:
    preflight = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }

    for reply in (
        await http.options("/graphql", headers=preflight),
        await http.post("/graphql", json={"query": VIEWER}, headers={"origin": "https://evil.example"}),
    ):
        assert not [name for name in reply.headers if name.startswith("access-control")]


LARGE = {
    "deep": "{" + "accounts{edges{node{children{edges{node{" * 8 + "id" + "}}}}}}" * 8 + "}",
    "aliases": "{" + " ".join(f"a{i}: viewer {{ kind }}" for i in range(101)) + "}",
    "roots": "{" + " ".join("viewer { kind }" for _ in range(51)) + "}",
    "tokens": "{ viewer { " + "kind " * 6_000 + "} }",
    "directives": "{ viewer { kind " + "@skip(if: false)" * 101 + " } }",
    "operations": " ".join(f"query Q{i} {{ viewer {{ kind }} }}" for i in range(11)),
    "fragments that multiply": "{ viewer { ...F0 } } "
    + " ".join(f"fragment F{i} on Viewer {{ ...F{i + 1} ...F{i + 1} }}" for i in range(60))
    + " fragment F60 on Viewer { kind }",
}


@pytest.mark.parametrize("query", LARGE.values(), ids=LARGE.keys())
async def test_a_document_that_is_too_large_is_refused(client_of: ClientOf, query: str) -> None:
    client = await client_of()

    result = await client.result(query, **{})

    assert [error["extensions"]["code"] for error in result["errors"]] == ["BAD_USER_INPUT"]
    assert "more than" in result["errors"][0]["message"] or "tokens" in result["errors"][0]["message"]


async def test_the_introspection_query_fits_into_the_limits(client_of: ClientOf) -> None:
    from graphql import get_introspection_query

    client = await client_of()

    data = await client.ask(get_introspection_query(descriptions=True, input_value_deprecation=True))

    assert data["__schema"]["subscriptionType"]["name"] == "Subscription"


async def test_a_fragment_that_spreads_itself_is_refused(client_of: ClientOf) -> None:
    client = await client_of()

    codes = await client.codes(
        "{ viewer { ...A } } fragment A on Viewer { ...B } fragment B on Viewer { ...A }"
    )

    assert set(codes) == {"BAD_USER_INPUT"}


ODD_IDS = [
    "",
    "x",
    "QWNjb3VudDp4",
    "Ü",
    "\x00",
    "a" * 10_000,
    "QWNjb3VudDowMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA",
]
ROOTS = ("account", "service", "partner", "incident", "insight", "node")


async def test_an_odd_id_names_nothing(client_of: ClientOf) -> None:
    client = await client_of()
    fields = " ".join(f"{root}(id: $id) {{ __typename }}" for root in ROOTS)
    for odd in ODD_IDS:
        data = await client.ask(f"query ($id: ID!) {{ {fields} nodes(ids: [$id]) {{ id }} }}", id=odd)

        assert data == {**dict.fromkeys(ROOTS), "nodes": [None]}


ODD_CURSORS = [
    "", "x", "W10=", "W1sicyIsIngiXV0=", "W1sidCIsIjIwMjYtMDEtMDEiXSxbInUiLCJ4Il1d", "\x00", "Ü", "a" * 5_000,
    "W1siaSIsMS4wXSxbInUiLCIwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDAiXV0=", "bnVsbA==", "MQ==",
]  # fmt: skip


@pytest.mark.parametrize(
    "field", ["accounts", "services", "partners", "incidents", "insights", "incidentEvents"]
)
async def test_an_odd_cursor_is_refused_without_detail(client_of: ClientOf, field: str) -> None:
    client = await client_of()
    query = f"query ($after: String!) {{ {field}(after: $after) {{ pageInfo {{ endCursor }} }} }}"
    for odd in ODD_CURSORS:
        [error] = (await client.result(query, after=odd))["errors"]

        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert error["message"] in (
            "This cursor is not one of ours.",
            "This cursor belongs to another list.",
        )


@pytest.mark.parametrize(
    "arguments",
    ["first: -1", "first: 101", "last: 101", "last: -1", "first: 1, last: 1", 'first: 1, before: "x"'],
)
async def test_a_page_has_bounds(client_of: ClientOf, arguments: str) -> None:
    client = await client_of()

    assert await client.codes(f"{{ incidents({arguments}) {{ pageInfo {{ endCursor }} }} }}") == [
        "BAD_USER_INPUT"
    ]


async def test_a_value_that_cannot_be_stored_is_bad_input(client_of: ClientOf) -> None:
    client = await client_of()
    query = "query ($s: String!) { accounts(filter: {search: $s}) { pageInfo { endCursor } } }"

    assert await client.codes(query, s="a\x00b") == ["BAD_USER_INPUT"]


async def test_what_nobody_foresaw_is_masked_and_can_be_found_in_the_log(
    api: Api, client_of: ClientOf, worker_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    account = await make.account(worker_db)
    insight = await make.insight(worker_db, account, evidence=[{"from": "the secret of a row"}])
    client = await client_of()

    result = await client.result("{ insights { edges { node { id title evidence { from } } } } }")

    error = result["errors"][0]
    assert (error["message"], error["extensions"]["code"]) == (
        "Something went wrong on our side.",
        "INTERNAL",
    )
    assert "secret" not in json.dumps(result)
    found = [record for record in caplog.records if "Request test failed" in record.getMessage()]
    assert len(found) == 1
    assert "the secret of a row" in str(found[0].exc_info)
    assert insight.title


async def test_what_takes_too_long_is_ended_in_the_database_too(
    client_of: ClientOf, cleaner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_door, "TIMEOUT_S", 0.3)
    client = await client_of()
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'vitals_app'"
    )
    async with cleaner.transaction():
        await cleaner.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        result = await client.result("{ accounts { edges { cursor } } }")

        assert [error["extensions"]["code"] for error in result["errors"]] == ["TIMEOUT"]
        assert await cleaner.fetchval(waiting) == 0
    assert await client.ask("{ accounts { edges { cursor } } }") == {"accounts": {"edges": []}}


async def test_a_key_without_the_scope_is_forbidden_and_the_rest_stands(client_of: ClientOf) -> None:
    client = await client_of(kind=PrincipalKind.OPERATOR, scopes=["accounts:read"])

    result = await client.result('{ accounts { edges { node { id } } } incident(id: "x") { id } }')

    assert result["data"] == {"accounts": {"edges": []}, "incident": None}
    assert [(e["extensions"]["code"], e["path"]) for e in result["errors"]] == [("FORBIDDEN", ["incident"])]


async def test_an_ingest_key_reads_itself_alone(client_of: ClientOf) -> None:
    client = await client_of(kind=PrincipalKind.INGEST)

    assert await client.ask("{ viewer { kind account { id } partner { id } } }") == {
        "viewer": {"kind": "INGEST", "account": None, "partner": None}
    }
    for field in ("accounts", "services", "partners", "incidents", "insights", "incidentEvents"):
        assert await client.codes(f"{{ {field} {{ pageInfo {{ endCursor }} }} }}") == ["FORBIDDEN"]
