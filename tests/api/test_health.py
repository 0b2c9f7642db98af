import asyncio
import socket

import httpx

from api.app import create_app
from domain.core.db import Database
from domain.core.settings import Settings
from tests import make
from tests.api.conftest import Api, ClientOf


async def test_a_process_with_its_database_is_ready(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez")).text == "ok"
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def test_a_process_without_its_database_lives_and_is_not_ready(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"postgresql://vitals_app@127.0.0.1:{taken.getsockname()[1]}/nothing"
        app = create_app(Settings(DATABASE_URL=nowhere, data=settings.data))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                assert (await client.get("/livez")).status_code == 200
                ready = await client.get("/readyz")
                asked = await client.post(
                    "/graphql",
                    json={"query": "{ viewer { kind } }"},
                    headers={"authorization": f"Bearer vk_{'a' * 12}_{'b' * 43}", "x-request-id": "test"},
                )

    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "database": False})
    assert asked.status_code == 500
    assert asked.json()["errors"] == [
        {
            "message": "Something went wrong on our side.",
            "extensions": {"code": "INTERNAL", "requestId": "test"},
        }
    ]


async def test_metrics_count_and_name_no_tenant(api: Api, client_of: ClientOf, worker_db: Database) -> None:
    account = await make.account(worker_db, name="Very Secret Ltd")
    client = await client_of(account=account)
    await client.ask("{ accounts { edges { node { name } } } }")
    await client.result("{ nope }")
    await client.http.get(f"/nowhere/{account.id}")

    text = (await client.http.get("/metrics")).text

    assert 'vitals_graphql_errors_total{code="BAD_USER_INPUT"}' in text
    assert 'vitals_http_requests_total{route="/graphql",status="200"}' in text
    assert 'vitals_http_requests_total{route="other",status="404"}' in text
    for trace in ("Secret", str(account.id), "account", client.key):
        assert trace not in text


async def test_dropped_requests_leave_no_connection_behind(
    api: Api, client_of: ClientOf, worker_db: Database
) -> None:
    await make.account(worker_db)
    client = await client_of()
    host, port = "127.0.0.1", int(api.url.rpartition(":")[2])
    body = b'{"query":"{ accounts { edges { node { id } } } incidents { edges { node { id } } } }"}'
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {client.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    for _ in range(50):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + body)
        await writer.drain()
        writer.transport.abort()

    pool = api.app.state.process.db.engine.pool
    async with asyncio.timeout(20):
        while pool.checkedout():  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)
    assert await client.ask("{ accounts { edges { node { name } } } }")
