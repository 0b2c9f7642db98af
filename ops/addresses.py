"""Where a running `vitals up` has its embedded servers, for the other commands on the same machine.

They are adopted only for what the environment does not name.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

_FILE = "addresses.json"
_GROUPS = {
    "DATABASE_URL": ("DATABASE_URL", "VITALS_WORKER_DATABASE_URL", "VITALS_OWNER_DATABASE_URL"),
    "BROKER_URL": ("BROKER_URL",),
}


def write(data: Path, embedded: Mapping[str, str]) -> None:
    """Keep the addresses of embedded servers, which need no password."""
    (data / _FILE).write_text(json.dumps(embedded, indent=2) + "\n")


def adopt(data: Path) -> None:
    """Set in our environment what `write` kept."""
    file = data / _FILE
    if not file.is_file():
        return
    kept = json.loads(file.read_text())
    for leader, names in _GROUPS.items():
        if not os.environ.get(leader):
            os.environ.update({name: kept[name] for name in names if name in kept})
