"""The key that seals secrets on this machine, made with the first `vitals up`; only its owner can read it."""

import base64
import os
from pathlib import Path

from ops.credentials import write_private

NAME = "VITALS_SECRET_KEYS"
_FILE = "secret.key"


def ensure(data: Path) -> str:
    """The key of this directory, made where there is none. Without it no secret here can be read again."""
    file = data / _FILE
    if not file.is_file():
        write_private(file, base64.urlsafe_b64encode(os.urandom(32)).decode() + "\n")
    return file.read_text().strip()


def adopt(data: Path) -> None:
    """Set in our environment the key of this directory, unless the environment names others.

    To a database that the environment names another directory's key may belong: then the directory must
    be named too.
    """
    is_ours = bool(os.environ.get("VITALS_DATA") or not os.environ.get("DATABASE_URL"))
    if is_ours and not os.environ.get(NAME) and (data / _FILE).is_file():
        os.environ[NAME] = ensure(data)
