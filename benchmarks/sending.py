"""HTTP as cheaply as Python can send it: a kept connection, bodies as they are, replies hardly read.

The sender shares the machine with what is measured, so what it uses is missing there.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

_BLOCK = 1 << 16


class Reply(NamedTuple):
    """`head` holds the lines of status and headers, in lower case."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, "" where there is none."""
        _, found, rest = self.head.partition(b"\r\n" + name.lower().encode() + b":")
        return rest.partition(b"\r\n")[0].strip().decode() if found else ""


class Connection:
    """One kept connection, on which one request after the other is sent with the same key.

    Where the server has closed it meanwhile, the request is sent again on a new one: it must have the same
    effect twice.
    """

    def __init__(self, address: tuple[str | None, int | None], key: str) -> None:
        self._address, self._key = address, key
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()

    async def open(self) -> None:
        self.close()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._loop.sock_connect(self._socket, self._address)

    def close(self) -> None:
        self._socket.close()

    async def post(
        self, path: str, body: bytes, *, content_type: str, idempotency_key: str | None = None
    ) -> Reply:
        """Raises ConnectionError where no connection is answered on."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: benchmark",
            f"Authorization: Bearer {self._key}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        ]
        if idempotency_key is not None:
            lines.append(f"Idempotency-Key: {idempotency_key}")
        head = "\r\n".join([*lines, "\r\n"]).encode()
        try:
            return await self._exchange(head, body)
        except ConnectionError:
            await self.open()
            return await self._exchange(head, body)

    async def _exchange(self, head: bytes, body: bytes) -> Reply:
        await self._loop.sock_sendall(self._socket, head)
        await self._loop.sock_sendall(self._socket, body)
        return await self._reply()

    async def _reply(self) -> Reply:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += await self._more()
        head, body = received[:end].lower(), received[end + 4 :]
        reply = Reply(int(head.split(b" ", 2)[1]), head + b"\r\n", body)
        while len(body) < int(reply.header("content-length")):
            body += await self._more()
        return reply._replace(body=body)

    async def _more(self) -> bytes:
        part = await self._loop.sock_recv(self._socket, _BLOCK)
        if not part:
            raise ConnectionError("The connection was closed.")
        return part


@asynccontextmanager
async def connected(url: str, key: str) -> AsyncIterator[Connection]:
    """A connection to the server at `url` (http, a numeric host)."""
    parts = urlsplit(url)
    connection = Connection((parts.hostname, parts.port), key)
    try:
        await connection.open()
        yield connection
    finally:
        connection.close()
