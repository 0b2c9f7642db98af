"""The keys of this machine's installation, in `credentials.json`, which its owner alone can read."""

import json
import os
from pathlib import Path

import msgspec

FILE = "credentials.json"


class Holder(msgspec.Struct, frozen=True):
    """An account or a partner with a key of its own; `id` is its GraphQL id."""

    id: str
    name: str
    key: str


class Credentials(msgspec.Struct, frozen=True):
    """`graphql` is the API's address; the keys of an operator and of ingest, then those of tenants."""

    graphql: str
    admin: str
    ingest: str
    accounts: list[Holder]
    partners: list[Holder]

    @property
    def url(self) -> str:
        """The API without a path."""
        return self.graphql.removesuffix("/graphql")


def load(data: Path) -> Credentials | None:
    """What was written there; None where there is no such file or it is not of this form."""
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Credentials)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def save(data: Path, credentials: Credentials) -> None:
    """Write all of it or nothing, mode 0600 from the start."""
    write_private(data / FILE, json.dumps(msgspec.to_builtins(credentials), indent=2) + "\n")


def write_private(file: Path, text: str) -> None:
    """Replace the file at once; nobody but the owner can read it at any time."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
