"""The real application behind a real socket, and clients that ask it with keys of their own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import event

from api.app import create_app
from api.auth import KnownKeys
from domain.core.db import Database
from tests import make
from tests.conftest import Cluster


@dataclass
class Api:
    """A running API process and its address."""

    app: FastAPI
    url: str

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws") + "/graphql"

    def remember_keys(self) -> None:
        """From now on keys are proved once, so that their proofs are no statements that come and go."""
        process = self.app.state.process
        self.app.state.process = replace(process, keys=KnownKeys(process.db, clock=lambda: 0.0))

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The SQL that the process sends meanwhile."""
        sent: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            sent.append(statement)

        engine = self.app.state.process.db.engine.sync_engine
        event.listen(engine, "before_cursor_execute", note)
        yield sent
        event.remove(engine, "before_cursor_execute", note)


class Client:
    """Asks with one key."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self.http, self.key = http, key

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "x-request-id": "test"}

    async def post(self, query: str, **variables: Any) -> httpx.Response:
        body = {"query": query, "variables": variables}
        return await self.http.post("/graphql", json=body, headers=self.headers)

    async def result(self, query: str, **variables: Any) -> dict[str, Any]:
        """Data and errors, whatever they are."""
        found: dict[str, Any] = (await self.post(query, **variables)).json()
        return found

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a document that has no errors."""
        result = await self.result(query, **variables)
        assert "errors" not in result, result["errors"]
        data: dict[str, Any] = result["data"]
        return data

    async def codes(self, query: str, **variables: Any) -> list[str]:
        """The codes of the errors."""
        result = await self.result(query, **variables)
        return [error["extensions"]["code"] for error in result.get("errors", [])]


ClientOf = Callable[..., Awaitable[Client]]


@pytest.fixture(scope="session")
async def server(
    cluster: Cluster, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """The application as uvicorn serves it, on a free port, once for all tests."""
    settings = cluster.settings(database, data=tmp_path_factory.mktemp("api"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app = create_app(settings)
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not serving.done(), "the server did not start"
        await asyncio.sleep(0)
    yield Api(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.should_exit = True
    await serving


@pytest.fixture
def api(server: Api, clean: None) -> Api:
    """The same without what it remembers of an earlier test's rows."""
    process = server.app.state.process
    process.intake.forget()
    server.app.state.process = replace(process, keys=KnownKeys(process.db))
    return server


@pytest.fixture
async def http(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        yield client


@pytest.fixture
def client_of(http: httpx.AsyncClient, db: Database) -> ClientOf:
    """Call it as `make.key`, for a client that asks with the new key; an operator's by default."""

    async def client(**owner: Any) -> Client:
        return Client(http, await make.key(db, **owner))

    return client
