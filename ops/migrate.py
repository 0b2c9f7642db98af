"""Roles, grants and migrations. Roles belong to the cluster, so `bootstrap` makes them, not a revision."""

import asyncio
import contextlib

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import make_url

from domain.core.db import listen
from domain.core.settings import APP, BACKUP, OWNER, WORKER, Settings, migrations_dir


def bootstrap(admin_url: str, *, passwords: dict[str, str] | None = None) -> None:
    """Make the four roles and let the owner create in `public`; idempotent.

    `admin_url` logs in as a role that may create roles. `passwords` are set where given.
    """
    asyncio.run(_bootstrap(admin_url, passwords or {}))


async def _bootstrap(admin_url: str, passwords: dict[str, str]) -> None:
    connection = await listen(admin_url, make_url(admin_url).username or "")
    try:
        # One at a time: two cannot change one row of the catalogue. The lock ends with the session.
        await connection.execute("SELECT pg_advisory_lock(hashtext('vitals.bootstrap'))")
        for role in (OWNER, APP, WORKER, BACKUP):
            await _make_role(connection, role, password=passwords.get(role))
        await _let_backup_read(connection)
        await connection.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}")
        await connection.execute(f"GRANT USAGE ON SCHEMA public TO {APP}, {WORKER}")
    finally:
        await connection.close()


async def _let_backup_read(connection: asyncpg.Connection) -> None:
    """Only what is not so yet is changed: roles are the cluster's, and another database may be set up now."""
    may = await connection.fetchrow(
        "SELECT rolbypassrls, pg_has_role(rolname, 'pg_read_all_data', 'member') AS reads"
        " FROM pg_roles WHERE rolname = $1",
        BACKUP,
    )
    if not may["rolbypassrls"]:
        await connection.execute(f"ALTER ROLE {BACKUP} BYPASSRLS")
    if not may["reads"]:
        await connection.execute(f"GRANT pg_read_all_data TO {BACKUP}")


async def _make_role(connection: asyncpg.Connection, role: str, *, password: str | None) -> None:
    """Concurrent bootstraps of one cluster may race; who loses finds the role made."""
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    if not exists:
        with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            await connection.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS")
    if password is not None:
        quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
        await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")


def role_passwords(settings: Settings) -> dict[str, str]:
    """The passwords that the processes will log in with, where they log in as our roles."""
    urls = (settings.database_url, settings.worker_database_url)
    parsed = [make_url(url) for url in urls]
    return {
        url.username: str(url.password) for url in parsed if url.password and url.username in (APP, WORKER)
    }


def may_create_roles(url: str) -> bool:
    """Whether the login of `url` can bootstrap."""

    async def ask() -> bool:
        connection = await listen(url, make_url(url).username or "")
        try:
            row = await connection.fetchval(
                "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
            )
            return bool(row)
        finally:
            await connection.close()

    return asyncio.run(ask())


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    config.set_main_option("url", url.replace("%", "%%"))
    return config


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Bring the schema to `revision`, making the roles first where the owner's login may."""
    url = settings.owner_database_url
    if may_create_roles(url):
        bootstrap(url, passwords=role_passwords(settings))
    command.upgrade(_config(url), revision)


def downgrade(settings: Settings, revision: str) -> None:
    command.downgrade(_config(settings.owner_database_url), revision)


def revise(settings: Settings, message: str) -> None:
    """Write a new migration from the difference between the models and the database."""
    command.revision(_config(settings.owner_database_url), message=message, autogenerate=True)


def revisions() -> list[Script]:
    """Every migration, the newest first."""
    return list(ScriptDirectory.from_config(_config("")).walk_revisions())


def head() -> str:
    return revisions()[0].revision


def status(settings: Settings) -> tuple[str | None, str]:
    """The revision that the database is at (None: none) and the newest one there is."""

    async def current() -> str | None:
        url = settings.owner_database_url
        connection = await listen(url, OWNER)
        try:
            if not await connection.fetchval("SELECT to_regclass('alembic_version')"):
                return None
            revision = await connection.fetchval("SELECT version_num FROM alembic_version")
            return None if revision is None else str(revision)
        finally:
            await connection.close()

    return asyncio.run(current()), head()
