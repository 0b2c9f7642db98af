"""The operator at the command line: one transaction in the operator's scope, refusals as plain messages."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import Database
from domain.core.errors import DomainError
from domain.core.settings import APP, Settings

T = TypeVar("T")


def transact(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Do the work as the operator in the database of DATABASE_URL; what the domain refuses ends with 1."""
    try:
        return asyncio.run(_transact(work))
    except DomainError as refusal:
        raise click.ClickException(str(refusal)) from refusal


async def _transact(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    db = Database(Settings.load().database_url, APP, pool_size=1)
    try:
        async with db.transaction("operator") as session:
            return await work(session)
    finally:
        await db.dispose()


def actor() -> str:
    """Who sits at the command line, as the audit log names them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need not have a name
        return f"cli:{os.getuid()}"
