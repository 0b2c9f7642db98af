"""The command `vitals`. A command's module is imported only when that command runs."""

import importlib
import os
from pathlib import Path

import click

from ops import addresses, secret_keys

_COMMANDS = {
    "up": ("ops.up:up", "Run all of it on this machine until Ctrl-C."),
    "serve": ("ops.run:serve", "Run one API process."),
    "worker": ("ops.run:worker", "Run one worker: a pool that takes tasks from the broker."),
    "beat": ("ops.run:beat", "Run the clock that asks for the scheduled tasks."),
    "relay": ("ops.run:relay", "Run one relay: events to their readers, jobs to the broker."),
    "migrate": ("ops.migrate_command:migrate", "Make roles and schema, or move between revisions."),
    "doctor": ("ops.doctor:doctor", "Say what is right and wrong with this installation."),
    "keys": ("ops.keys:keys", "Create, list and revoke API keys."),
    "catalog": ("ops.catalog:catalog", "Apply or export accounts, services and partners."),
    "stripe": ("ops.stripe:stripe", "Webhooks of Stripe's, whose accounts are whose, and what came."),
    "replay": ("ops.replay:replay", "Send a file through the ingest as live traffic would come."),
    "simulate": ("ops.simulate:simulate", "Make payment telemetry with labelled incidents."),
    "prepare": ("ops.up:prepare", ""),
}


class LazyGroup(click.Group):
    """Knows its commands by name and one line of help; those without a line are not listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items() if line])


@click.group(cls=LazyGroup)
@click.version_option(package_name="merchant-vitals")
@click.pass_context
def main(context: click.Context) -> None:
    """Health of merchant accounts, platform services and network partners."""
    if context.invoked_subcommand != "up":
        data = Path(os.environ.get("VITALS_DATA") or ".local")
        secret_keys.adopt(data)
        addresses.adopt(data)
