"""Where to send and with which key: what is given, or the installation of this machine."""

import os
from pathlib import Path
from typing import Any

import click

from ops import credentials
from ops.replaying import sender

_HERE = "http://127.0.0.1:8000"


def options(command: Any) -> Any:
    """Adds --url and --key."""
    key = click.option("--key", envvar="VITALS_KEY", help="An ingest key; else that of credentials.json.")
    url = click.option("--url", help="The API; else the one on this machine, on PORT.")
    return url(key(command))


def resolve(url: str | None, key: str | None) -> tuple[str, str]:
    """The address and the key; a key of this machine is sent to no other. Raises UsageError."""
    data = Path(os.environ.get("VITALS_DATA") or ".local")
    kept = credentials.load(data)
    if url is None:
        port = os.environ.get("PORT")
        url = f"http://127.0.0.1:{port}" if port else kept.url if kept else _HERE
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url must begin with http:// or https://, not {url!r}.")
    if key is not None:
        return url, key
    if kept is None:
        raise click.UsageError(f"Give --key or VITALS_KEY: there is no {data / credentials.FILE}.")
    if not sender.is_local(url):
        raise click.UsageError(f"Give --key or VITALS_KEY: the key in {data} is not sent to {url}.")
    return url, kept.ingest


def given_pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise click.UsageError(f"{option} must be NAME=VALUE, not {text!r}.")
        if name in found:
            raise click.UsageError(f"{option} names {name} twice.")
        found[name] = value
    return found
