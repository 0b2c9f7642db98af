"""`vitals keys`: API keys, from the command line. A secret is printed once, when its key is made."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access import queries
from domain.access import service as access
from domain.access.models import ApiKey, PrincipalKind
from domain.access.service import Holder
from domain.catalog import queries as catalog
from domain.catalog.models import AccountNotFound, ComponentNotFound
from ops.operator import actor, transact

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys (in the database of DATABASE_URL)."""


@keys.command()
@click.argument("name")
@click.option("--operator", is_flag=True, help="It may see and do all that its scopes name.")
@click.option("--ingest", is_flag=True, help="It sends telemetry of any account and reads nothing.")
@click.option("--account", metavar="EXTERNAL_ID", help="It speaks for this account and all below it.")
@click.option("--partner", metavar="CODE", help="It speaks for this network partner.")
@click.option("--scope", "scopes", multiple=True, help="Such as incidents:read; again for more.")
@click.option("--days", type=click.IntRange(1, 36_500), help="How long it is valid; else until revoked.")
@_JSON
def create(
    name: str,
    *,
    operator: bool,
    ingest: bool,
    account: str | None,
    partner: str | None,
    scopes: tuple[str, ...],
    days: int | None,
    as_json: bool,
) -> None:
    """Make a key called NAME for an operator, for ingest, for an account or for a partner, and print it."""
    if [operator, ingest, account is not None, partner is not None].count(True) != 1:
        raise click.UsageError("Give one of --operator, --ingest, --account and --partner.")
    at = datetime.now(UTC)
    plain = PrincipalKind.OPERATOR if operator else PrincipalKind.INGEST

    async def work(session: AsyncSession) -> tuple[ApiKey, str]:
        return await access.create_key(
            session,
            name=name,
            holder=await _holder(session, plain, account=account, partner=partner),
            scopes=scopes or None,
            expires_at=at + timedelta(days=days) if days else None,
            by=actor(),
            at=at,
        )

    key, text = transact(work)
    if as_json:
        click.echo(json.dumps(_described(key) | {"key": text}))
    else:
        click.echo(text)
        click.echo("Keep it: it is not stored and cannot be shown again.", err=True)


@keys.command("list")
@_JSON
def show(*, as_json: bool) -> None:
    """Print all keys, oldest first."""
    found = transact(queries.keys)
    if as_json:
        click.echo(json.dumps([_described(key) for key in found]))
    else:
        _print_table(found, at=datetime.now(UTC))


@keys.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Make the key with this PREFIX useless for ever; to do it again changes nothing."""
    key = transact(lambda session: access.revoke(session, prefix, by=actor(), at=datetime.now(UTC)))
    click.echo(f"{key.prefix} ({key.name}) is revoked since {key.revoked_at:%FT%TZ}.")


async def _holder(
    session: AsyncSession, plain: PrincipalKind, *, account: str | None, partner: str | None
) -> Holder:
    if account is not None:
        found = await catalog.accounts_by_external_id(session, [account])
        if account not in found:
            raise AccountNotFound(account)
        return Holder(PrincipalKind.MERCHANT, account_id=found[account].id)
    if partner is not None:
        row = await catalog.partner_by_code(session, partner)
        if row is None:
            raise ComponentNotFound(partner)
        return Holder(PrincipalKind.PARTNER, partner_id=row.id)
    return Holder(plain)


def _described(key: ApiKey) -> dict[str, Any]:
    """Never its hash."""
    times = ("created_at", "last_used_at", "expires_at", "revoked_at")
    owner = key.account_id or key.partner_id
    return {
        "id": str(key.id),
        "prefix": key.prefix,
        "name": key.name,
        "kind": key.kind.value,
        "owner_id": str(owner) if owner else None,
        "scopes": key.scopes,
        **{name: _written(getattr(key, name)) for name in times},
    }


def _written(at: datetime | None) -> str | None:
    return f"{at:%FT%TZ}" if at else None


def _print_table(found: Sequence[ApiKey], *, at: datetime) -> None:
    form = "{:<13} {:<9} {:<8} {:<21} {}"
    click.echo(form.format("PREFIX", "KIND", "STATE", "LAST USED", "NAME"))
    for key in found:
        state = "revoked" if key.revoked_at else "valid" if key.is_valid(at) else "expired"
        click.echo(form.format(key.prefix, key.kind, state, _written(key.last_used_at) or "never", key.name))
