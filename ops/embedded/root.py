"""Postgres refuses uid 0: run it as nobody, without making an account or opening any directory.

`userns`: a user namespace that maps our uid 0 to nobody. Files stay ours, a 0700 home is no obstacle.
`setuid`: where such namespaces are closed (a container's default), nobody itself.
"""

import ctypes
import os
import pwd
import sys
from pathlib import Path
from typing import Literal

RootMode = Literal["plain", "userns", "setuid"]
_CLONE_NEWUSER = 0x10000000


def root_mode() -> RootMode:
    """How this process can run a program that refuses uid 0."""
    if os.geteuid() != 0:
        return "plain"
    if not sys.platform.startswith("linux"):
        return "setuid"
    child = os.fork()
    if child == 0:
        os._exit(_try_namespace())
    return "userns" if os.waitpid(child, 0)[1] == 0 else "setuid"


def _try_namespace() -> int:
    try:
        _enter_namespace()
    except OSError:
        return 1
    return 0 if os.geteuid() != 0 else 1


def _enter_namespace() -> None:
    nobody = pwd.getpwnam("nobody")
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")


def change_user(mode: RootMode) -> None:
    """Between fork and exec: stop being root in the way that `mode` says."""
    if mode == "userns":
        _enter_namespace()
    elif mode == "setuid":
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
