"""Request bodies: read up to a limit, also once unpacked, so that no request can fill the memory."""

import asyncio
import zlib
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request

MOST_BYTES = 8 * 1024 * 1024
_MOST_S = 30.0


class BodyRefused(Exception):
    """A body that is not read; `status` is the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _unlimited(_: int) -> None:
    """Whoever counts nothing has room for all."""


async def read(
    request: Request, *, most: int = MOST_BYTES, hold: Callable[[int], None] = _unlimited
) -> bytes:
    """The body, unpacked where it is gzipped; BodyRefused beyond `most` bytes before or after.

    `hold` is told of bytes before they are held, and raises where there is no room for them.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise BodyRefused(415, f"Content-Encoding {encoding[:40]!r} is not understood: send gzip or none.")
    try:
        async with asyncio.timeout(_MOST_S):
            body = await _received(request, most, hold)
    except TimeoutError:
        raise BodyRefused(408, f"The body did not arrive within {_MOST_S:.0f} s.") from None
    except ClientDisconnect:
        raise BodyRefused(400, "The body ended too early.") from None
    if encoding != "gzip":
        return body
    # Inflating holds no lock: meanwhile others are served.
    content = await asyncio.get_running_loop().run_in_executor(None, _unpacked, body, most)
    hold(len(content))
    return content


async def _received(request: Request, most: int, hold: Callable[[int], None]) -> bytes:
    told = request.headers.get("content-length", "")
    held = int(told) if told.isdecimal() else 0
    if held > most:
        raise _too_large(most)
    hold(held)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        if size > held:
            hold(size - held)
            held = size
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _unpacked(body: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = inflater.decompress(body, most + 1)
    except zlib.error:
        raise BodyRefused(400, "The body is not gzip.") from None
    if len(content) > most:
        raise _too_large(most)
    if not inflater.eof or inflater.unused_data:
        raise BodyRefused(400, "The gzip body ends too early or goes on behind its end.")
    return content


def _too_large(most: int) -> BodyRefused:
    return BodyRefused(413, f"The body is larger than {most} bytes: send it in parts.")
