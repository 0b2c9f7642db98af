"""`vitals migrate`: the schema's revisions, from the command line."""

import asyncio
import tempfile
from pathlib import Path

import click

from domain.core.settings import Settings
from ops import migrate as migrations


@click.group()
def migrate() -> None:
    """Make roles and schema, or move between revisions (as VITALS_OWNER_DATABASE_URL)."""


@migrate.command()
@click.argument("revision", default="head")
def up(revision: str) -> None:
    """Make the roles where the login may, then go up to REVISION."""
    settings = Settings.load()
    migrations.upgrade(settings, revision)
    click.echo(f"at {migrations.status(settings)[0]}")


@migrate.command()
@click.argument("revision")
def down(revision: str) -> None:
    """Go down to REVISION (-1: one step, base: to an empty schema); what it drops is lost."""
    settings = Settings.load()
    migrations.downgrade(settings, revision)
    click.echo(f"at {migrations.status(settings)[0] or 'base'}")


@migrate.command()
def status() -> None:
    """Say where the database is; ends with 1 when it is not at the newest revision."""
    current, newest = migrations.status(Settings.load())
    click.echo(f"at {current or 'base'}, newest is {newest}")
    if current != newest:
        raise click.exceptions.Exit(1)


@migrate.command()
@click.argument("message")
def new(message: str) -> None:
    """Write a migration from the difference between the models and all migrations so far."""
    from ops.embedded.postgres import Postgres  # a development tool: absent in production

    with tempfile.TemporaryDirectory(prefix="vitals-") as place:
        server = Postgres(Path(place), log=Path(place) / "postgres.log", fast=True)
        server.start()
        try:
            asyncio.run(server.make_database("vitals"))
            settings = Settings.load().model_copy(update={"owner_database_url": server.url()})
            migrations.upgrade(settings)
            migrations.revise(settings, message)
        finally:
            server.stop()
