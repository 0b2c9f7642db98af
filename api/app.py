"""The API as an ASGI application: `uvicorn --factory api.app:create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from api.graphql import http as graphql
from api.graphql.sockets import Sockets
from api.http import health, ingest, statuspages, stripe
from api.process import Process
from api.requests import Requests
from domain.core.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Reads the settings from the environment unless they are given."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.process = Process.start(settings or Settings.load())
        try:
            yield
        finally:
            await app.state.process.stop()

    app = FastAPI(title="Vitals", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Requests)
    app.add_api_route("/graphql", graphql.endpoint, methods=["GET", "POST"], response_model=None)
    app.router.routes.extend([WebSocketRoute("/graphql", Sockets()), *ingest.routes])
    for door in (health, statuspages, stripe):
        app.include_router(door.router)
    return app
