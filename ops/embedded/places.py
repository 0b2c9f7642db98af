"""Where embedded servers keep their files: private directories, socket paths that fit the kernel's limit."""

import hashlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path

SOCKET_PATH_LIMIT = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux


class UnsafePlace(Exception):
    """A directory that should be ours alone belongs to someone else."""


def private(path: Path, *, mode: int = 0o700) -> Path:
    """`path` as a directory of ours: made if it is missing, refused if it is a link or another's."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid not in (os.getuid(), _nobody_for_root()):
        raise UnsafePlace(f"{path} belongs to uid {found.st_uid}: remove it, or set VITALS_DATA")
    path.chmod(mode)
    return path


def for_sockets(wanted: Path, *, longest_name: str) -> Path:
    """`wanted`, or a short directory under the system's temporary one where its path would be too long."""
    if len(os.fsencode(wanted / longest_name)) <= SOCKET_PATH_LIMIT:
        return private(wanted)
    return private(Path(tempfile.gettempdir()) / f"vitals-{os.getuid()}-{digest(wanted)}")


def digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:10]


def open_to_nobody(path: Path) -> bool:
    """Can the user nobody reach what is in `path`? Looks at each directory on the way."""
    return all(place.stat().st_mode & 0o001 for place in (path, *path.parents))


def give_to_nobody(path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(path, nobody.pw_uid, nobody.pw_gid)


def copied_for_nobody(package: Path) -> Path:
    """A copy of a package (and of its bundled `.libs` beside it) that nobody can run."""
    root = private(Path("/var/tmp") / f"vitals-bin-{digest(package)}", mode=0o755)
    done = root / f"copied-{package.stat().st_mtime_ns}"
    if not done.exists():
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                shutil.rmtree(root / source.name, ignore_errors=True)
                shutil.copytree(source, root / source.name, symlinks=True)
        done.touch()
    return root / package.name


def _nobody_for_root() -> int:
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()
