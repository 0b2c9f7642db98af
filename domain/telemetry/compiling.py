"""How scans are compiled: at first use, and kept on disk apart for each state of the sources.

Numba tells whether kept code is old by the file of the function alone, not by those of what it calls.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config as numba_settings


def _kept_in(here: Path) -> Path:
    """In `NUMBA_CACHE_DIR`, or beside the sources, or with the user; where none can be written, for once."""
    digest = hashlib.sha256()
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    given = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(given)] if given else [here / "__pycache__", Path.home() / ".cache" / "vitals"]
    for place in places:
        folder = place / f"compiled-{digest.hexdigest()[:16]}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.mkdtemp(prefix="vitals-compiled-"))


numba_settings.CACHE_DIR = str(_kept_in(Path(__file__).parent))  # type: ignore[attr-defined]

# For code that keeps no array: to count references, and to hand arrays over in calls, costs more than a hash.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}
compiled: Any = njit(**_OPTIONS)
inlined: Any = njit(**_OPTIONS, forceinline=True)
