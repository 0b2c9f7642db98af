"""Arrays of numbers in as few bytes as hold them exactly, ready to be compressed.

An array is a byte that tells its form, and then its numbers; how many there are is known to the reader.
"""

from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

_INTEGERS = ("<i1", "<i2", "<i4", "<i8")
_LIMITS = (2**7 - 1, 2**15 - 1, 2**31 - 1, 2**63 - 1)
_SCALES = (1, 100, 1_000)  # form = scale × 4 + width; above them, a double as it is
_DOUBLE = len(_SCALES) * len(_INTEGERS)
_SAME = _DOUBLE + 1  # all are the one that follows
_MOST = 2.0**53
MOST_BYTES = 256 * 1024 * 1024


class CorruptBytes(ValueError):
    """The bytes are not what they are taken for."""


def pack(values: NDArray[np.integer] | NDArray[np.floating]) -> bytes:
    """The numbers exactly: as whole numbers, as decimals of 2 or 3 places, or as doubles."""
    if len(values) > 1 and (values == values[0]).all() and (values[0] != 0 or not np.signbit(values).any()):
        return bytes([_SAME]) + pack(values[:1])
    for form, scale in enumerate(_SCALES):
        whole = _whole(values, scale)
        if whole is not None:
            width = _width(whole)
            return bytes([form * len(_INTEGERS) + width]) + _shuffled(whole.astype(_INTEGERS[width]))
    return bytes([_DOUBLE]) + _shuffled(values.astype("<f8"))


def unpack(content: bytes, start: int, n: int) -> tuple[NDArray[Any], int]:
    """The n numbers that begin at `start`, and where they end. Raises CorruptBytes."""
    if start >= len(content) or content[start] > _SAME:
        raise CorruptBytes("An array has no form that is known.")
    form = content[start]
    if form == _SAME:
        return _repeated(content, start, n)
    kind = np.dtype("<f8" if form == _DOUBLE else _INTEGERS[form % len(_INTEGERS)])
    end = start + 1 + n * kind.itemsize
    if end > len(content):
        raise CorruptBytes("An array ends too early.")
    found = _unshuffled(content, start + 1, n, kind)
    if form == _DOUBLE:
        return found, end
    scale = _SCALES[form // len(_INTEGERS)]
    return (found.astype(np.int64) if scale == 1 else found / scale), end


def _repeated(content: bytes, start: int, n: int) -> tuple[NDArray[Any], int]:
    if content[start + 1 : start + 2] == bytes([_SAME]):
        raise CorruptBytes("An array repeats a repetition.")
    one, end = unpack(content, start + 1, 1)
    return np.broadcast_to(one, n), end


def compress(content: bytes, *, level: int) -> bytes:
    """Behind a byte that tells whether it is compressed, which few bytes are not."""
    packed = _compressor(level).compress(content)
    return b"\x01" + packed if len(packed) < len(content) else b"\x00" + content


def decompress(blob: bytes) -> bytes:
    """What `compress` was given. Raises CorruptBytes."""
    if blob[:1] == b"\x00":
        return blob[1:]
    frame = memoryview(blob)[1:]
    try:
        size = zstandard.get_frame_parameters(frame, zstandard.FORMAT_ZSTD1_MAGICLESS).content_size
        if size > MOST_BYTES:
            raise CorruptBytes(f"The bytes promise {size} bytes, more than {MOST_BYTES}.")
        return _DECOMPRESSOR.decompress(frame, max_output_size=MOST_BYTES)
    except zstandard.ZstdError as error:
        raise CorruptBytes(f"The bytes cannot be decompressed: {error}.") from None


def _whole(values: NDArray[np.integer] | NDArray[np.floating], scale: int) -> NDArray[np.int64] | None:
    """The values times `scale` as whole numbers, if that loses nothing."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint(values * scale)
        exact = (np.abs(scaled) < _MOST) & (scaled / scale == values) & ((values != 0) | ~np.signbit(values))
    return scaled.astype(np.int64) if exact.all() else None


def _width(whole: NDArray[np.int64]) -> int:
    """The first form that all of them fit into."""
    if not len(whole):
        return 0
    most = max(int(whole.max()), -1 - int(whole.min()))
    return next(width for width, limit in enumerate(_LIMITS) if most <= limit)


def _shuffled(values: NDArray[np.generic]) -> bytes:
    """All first bytes, then all second ones: like stands beside like."""
    if values.dtype.itemsize == 1:
        return values.tobytes()
    return values.view(np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes()


def _unshuffled(content: bytes, start: int, n: int, kind: np.dtype[Any]) -> NDArray[Any]:
    if kind.itemsize == 1:
        return np.frombuffer(content, kind, n, start)
    parts = np.frombuffer(content, np.uint8, n * kind.itemsize, start).reshape(kind.itemsize, n)
    return np.ascontiguousarray(parts.T).view(kind).reshape(n)


_DECOMPRESSOR = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
_COMPRESSORS: dict[int, zstandard.ZstdCompressor] = {}


def _compressor(level: int) -> zstandard.ZstdCompressor:
    if level not in _COMPRESSORS:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_checksum=False, write_dict_id=False
        )
        _COMPRESSORS[level] = zstandard.ZstdCompressor(compression_params=parameters)
    return _COMPRESSORS[level]
