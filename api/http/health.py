"""Whether the process lives, whether it can serve, and what it has counted."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.process import Process

READY_S = 2
router = APIRouter()


@router.get("/livez")
async def livez() -> PlainTextResponse:
    """Depends on nothing: a database that is away is no reason to be restarted."""
    return PlainTextResponse("ok")


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """503 while the database cannot be reached, or lacks our tables."""
    process: Process = request.app.state.process
    try:
        async with asyncio.timeout(READY_S), process.db.read() as session:
            await session.execute(text("SELECT FROM stream_events LIMIT 0"))
    except (SQLAlchemyError, OSError, TimeoutError):
        return JSONResponse({"status": "unavailable", "database": False}, 503)
    return JSONResponse({"status": "ready", "database": True, "listening": process.wakes.is_listening})


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    process: Process = request.app.state.process
    process.measure()
    return PlainTextResponse(process.metrics.text(), media_type="text/plain; version=0.0.4")
