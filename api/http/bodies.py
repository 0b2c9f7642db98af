"""Request bodies: read up to a limit, also once unpacked, so that no request can fill the memory."""

import zlib

from starlette.requests import Request

MOST_BYTES = 8 * 1024 * 1024


class BodyRefused(Exception):
    """A body that is not read; `status` is the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read(request: Request) -> bytes:
    """The body, unpacked where it is gzipped; BodyRefused beyond MOST_BYTES before or after."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise _too_large()
        parts.append(part)
    body = b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "gzip":
        return _unpacked(body)
    if encoding not in ("", "identity"):
        raise BodyRefused(415, f"Content-Encoding {encoding[:40]!r} is not understood: send gzip or none.")
    return body


def _unpacked(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = inflater.decompress(body, MOST_BYTES + 1)
    except zlib.error:
        raise BodyRefused(400, "The body is not gzip.") from None
    if len(content) > MOST_BYTES:
        raise _too_large()
    if not inflater.eof or inflater.unused_data:
        raise BodyRefused(400, "The gzip body ends too early or goes on behind its end.")
    return content


def _too_large() -> BodyRefused:
    return BodyRefused(413, f"The body is larger than {MOST_BYTES} bytes: send it in parts.")
