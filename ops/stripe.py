"""`vitals stripe`: webhooks of Stripe's, from the command line. A secret is read, and never printed."""

import csv
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.settings import Settings
from domain.stripe import endpoints, judging, queries
from domain.stripe.models import State, StripeEndpoint, StripeEvent
from domain.stripe.queries import OF_SETTINGS
from domain.stripe.sealing import Seal
from ops.operator import actor, transact

_SECRET = "STRIPE_WEBHOOK_SECRET"
_PATH = "/v1/events/stripe"
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def stripe() -> None:
    """Take in Stripe's webhooks (in the database of DATABASE_URL).

    A signing secret is read from STRIPE_WEBHOOK_SECRET, or from the standard input, or asked for.
    """


@stripe.command()
@click.option("--account", metavar="EXTERNAL_ID", help="Whose it is; left out, it is the platform's.")
@click.option("--test-mode", is_flag=True, help="Take events of test mode too, as if they were real.")
def add(account: str | None, *, test_mode: bool) -> None:
    """Make an endpoint, and print the path that the webhook must point to."""
    secret, seal = _secret(), _seal()

    async def work(session: AsyncSession) -> StripeEndpoint:
        return await endpoints.add(
            session,
            secret,
            account=account,
            takes_tests=test_mode,
            seal=seal,
            by=actor(),
            at=datetime.now(UTC),
        )

    click.echo(f"{_PATH}?endpoint={transact(work).id}")


@stripe.command()
@click.argument("endpoint", type=click.UUID)
@click.option("--overlap-hours", type=click.IntRange(0, 168), default=24, show_default=True)
def rotate(endpoint: UUID, overlap_hours: int) -> None:
    """Take a new signing secret for ENDPOINT; the old one is good for some hours more."""
    secret, seal, overlap = _secret(), _seal(), timedelta(hours=overlap_hours)

    async def work(session: AsyncSession) -> StripeEndpoint:
        return await endpoints.rotate(
            session, endpoint, secret, overlap=overlap, seal=seal, by=actor(), at=datetime.now(UTC)
        )

    click.echo(f"The old secret is good until {transact(work).old_secret_until:%FT%TZ}.")


@stripe.command()
@click.argument("endpoint", type=click.UUID)
def remove(endpoint: UUID) -> None:
    """Take nothing more at ENDPOINT; what was taken in stays."""
    transact(lambda session: endpoints.remove(session, endpoint, by=actor(), at=datetime.now(UTC)))
    click.echo(f"{endpoint} is removed.")


@stripe.command("list")
@_JSON
def show(*, as_json: bool) -> None:
    """Print the endpoints, oldest first, with the events of each by what became of them."""
    found = transact(_described)
    if as_json:
        click.echo(json.dumps(found))
        return
    form = "{:<37} {:<20} {}"
    click.echo(form.format("ENDPOINT", "ACCOUNT", "EVENTS"))
    for one in found:
        told = ", ".join(f"{number} {state.lower()}" for state, number in one["events"].items())
        click.echo(form.format(one["id"], one["account"] or "(the platform)", told or "none"))


@stripe.command("map")
@click.argument("stripe_account", required=False)
@click.argument("account", metavar="[EXTERNAL_ID]", required=False)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV without a header: STRIPE_ACCOUNT,EXTERNAL_ID.",
)
def map_(stripe_account: str | None, account: str | None, file: Path | None) -> None:
    """Say which of our accounts STRIPE_ACCOUNT (acct_…) is; what waited for it is then taken in."""
    if (file is None) == (account is None):
        raise click.UsageError("Give STRIPE_ACCOUNT and EXTERNAL_ID, or --file.")
    pairs = _pairs(file) if file else {str(stripe_account): str(account)}
    transact(lambda session: endpoints.map_accounts(session, pairs, by=actor(), at=datetime.now(UTC)))
    click.echo(f"{len(pairs)} mapped; events that waited for them are taken in within a minute.")


@stripe.command()
@click.argument("stripe_account")
def unmap(stripe_account: str) -> None:
    """Forget which of our accounts STRIPE_ACCOUNT is."""
    transact(lambda session: endpoints.unmap(session, stripe_account, by=actor(), at=datetime.now(UTC)))
    click.echo(f"{stripe_account} is not mapped any more.")


@stripe.command()
@_JSON
def accounts(*, as_json: bool) -> None:
    """Print the accounts of Stripe's that are mapped, each with ours."""
    found = transact(queries.mappings)
    if as_json:
        click.echo(json.dumps([{"stripe_account": theirs, "account": ours} for theirs, ours in found]))
        return
    for theirs, ours in found:
        click.echo(f"{theirs:<25} {ours}")


@stripe.command()
@click.option("--state", type=click.Choice([one.lower() for one in State]), help="Only those.")
@click.option("--health", is_flag=True, help="Only alerts of Stripe's own health (v2.core.health).")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@_JSON
def events(state: str | None, *, health: bool, limit: int, as_json: bool) -> None:
    """Print the events that came last, newest first."""
    chosen = State[state.upper()] if state else None
    type_ = judging.HEALTH if health else None
    found = transact(lambda session: queries.latest(session, state=chosen, type_=type_, limit=limit))
    if as_json:
        click.echo(json.dumps([_of_event(one) for one in found]))
        return
    form = "{:<20} {:<10} {:<32} {:<22} {} {}"
    click.echo(form.format("HAPPENED", "STATE", "TYPE", "STRIPE ACCOUNT", "ID", "REMARK").rstrip())
    for one in found:
        account = one.stripe_account or "-"
        told = _summary(one) or one.remark or ""
        line = form.format(f"{one.created_at:%FT%TZ}", one.state.lower(), one.type, account, one.id, told)
        click.echo(line.rstrip())


@stripe.command()
def reseal() -> None:
    """Seal all secrets with the first of VITALS_SECRET_KEYS, so that the others can be given up."""
    seal = _seal()
    number = transact(lambda session: endpoints.reseal(session, seal=seal, by=actor(), at=datetime.now(UTC)))
    click.echo(f"{number} endpoints resealed.")


def _secret() -> str:
    """Never an argument: those are in the history of the shell and in the list of processes."""
    if given := os.environ.get(_SECRET):
        return given.strip()
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    asked: str = click.prompt("Signing secret (whsec_…)", hide_input=True)
    return asked.strip()


def _seal() -> Seal:
    return Seal(Settings.load().secret_keys.get_secret_value())


def _pairs(file: Path) -> dict[str, str]:
    """Stripe's accounts and ours; both columns are all there is, and each of Stripe's comes once."""
    pairs: dict[str, str] = {}
    try:
        for number, row in enumerate(csv.reader(file.read_text("utf-8-sig").splitlines()), 1):
            if len(row) != 2 or row[0].strip() in pairs:
                wanted = "must be an account of Stripe's that is new in it, and one of ours"
                raise click.ClickException(f"{file} line {number} {wanted}.")
            pairs[row[0].strip()] = row[1].strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{file} is not CSV in UTF-8: {error}") from error
    return pairs


async def _described(session: AsyncSession) -> list[dict[str, Any]]:
    """Never a secret."""
    counts = await queries.counts(session)
    found = [
        {
            "id": str(row.id),
            "account": account,
            "takes_tests": row.takes_tests,
            "created_at": f"{row.created_at:%FT%TZ}",
            "events": _sorted(counts.get(row.id, {})),
        }
        for row, account in await queries.endpoints(session)
    ]
    if of_settings := counts.get(OF_SETTINGS):
        found.append(
            {"id": "(settings)", "account": None, "takes_tests": False, "events": _sorted(of_settings)}
        )
    return found


def _sorted(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.value: counts[state] for state in State if state in counts}


def _of_event(event: StripeEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "endpoint": str(event.endpoint_id),
        "type": event.type,
        "state": event.state.value,
        "stripe_account": event.stripe_account,
        "created_at": f"{event.created_at:%FT%TZ}",
        "received_at": f"{event.received_at:%FT%TZ}",
        "remark": event.remark,
        "health": _health(event),
    }


def _health(event: StripeEvent) -> dict[str, Any] | None:
    """The alert that a resolved notification told of."""
    if event.state is not State.TAKEN or not event.payload:
        return None
    data = msgspec.json.decode(event.payload).get("data")
    return data if isinstance(data, dict) else None


def _summary(event: StripeEvent) -> str | None:
    found = (_health(event) or {}).get("summary")
    return found if isinstance(found, str) else None
