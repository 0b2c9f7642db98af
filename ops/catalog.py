"""`vitals catalog`: accounts, services, partners and dependencies, from the command line."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from domain.catalog import document, queries, service
from domain.catalog.entries import KINDS
from domain.catalog.service import Change, Outcome
from domain.core.errors import DomainError
from ops.operator import actor, transact


@click.group()
def catalog() -> None:
    """Apply or export accounts, services, partners and dependencies (in the database of DATABASE_URL)."""


@catalog.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every change as JSON.")
def apply(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Create what FILES name and is new, update what differs; all of it, or nothing.

    A file is YAML with any of the lists accounts, services, partners and dependencies, or CSV and
    named for what it holds: accounts.csv, services.csv, partners.csv, dependencies.csv. A directory
    stands for the files in it. What the files do not name stays as it is.
    """
    try:
        read = document.read(files)
    except DomainError as refusal:
        raise click.ClickException(str(refusal)) from refusal
    changes = transact(lambda session: service.apply(session, read, by=actor(), at=datetime.now(UTC)))
    if as_json:
        click.echo(json.dumps([asdict(change) for change in changes]))
    else:
        _report(changes)


@catalog.command()
def export() -> None:
    """Print all of it as YAML that `apply` takes."""
    click.echo(document.render(transact(queries.catalogue)), nl=False)


def _report(changes: Sequence[Change]) -> None:
    """Each entry that is new or changed, then how many of each kind were what."""
    for change in changes:
        if change.outcome is not Outcome.UNCHANGED:
            named = f" ({', '.join(change.fields)})" if change.fields else ""
            click.echo(f"{change.outcome.lower()} {change.kind}: {change.key}{named}")
    for kind in KINDS:
        counts = Counter(change.outcome for change in changes if change.kind == kind)
        if counts:
            told = ", ".join(f"{counts[outcome]} {outcome.lower()}" for outcome in Outcome)
            click.echo(f"{kind}: {told}")
