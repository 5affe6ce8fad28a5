"""Frames: the on-disk format of a record in a segment, and the scanner that recovers from damage.

A frame is `magic (4) | length u32 | crc32 u32 | payload`, little-endian; the checksum covers length and payload.
The magic has bytes that are invalid in UTF-8, so that JSON payloads never look like the start of a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"\xf5CS\xfe"
MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Maximum length of a payload in bytes; a larger length in a header means damage."""

_HEAD: Final = struct.Struct("<4sII")
_LENGTH: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size

_HELD_BYTES: Final = 5 * 1024
"""Input size up to which zlib keeps the GIL. For larger input it releases it and must wait to get it back."""
_QUICK_BYTES: Final = 256 * 1024
"""Size of input whose checksum takes about 30 µs."""

_CUT: Final = -1
_BAD: Final = -2


class Frame(NamedTuple):
    """One complete frame; offsets are relative to the segment."""

    start: int
    end: int
    payload: bytes


class Gap(NamedTuple):
    """Bytes that are not a frame."""

    start: int
    end: int
    torn: bool = False
    """True for a partial frame at the segment's end, whose append never returned; False for damage."""


def encode(payload: bytes) -> bytes:
    """Return the frame of a payload of at most MAX_PAYLOAD bytes."""
    size = len(payload)
    small = not _HELD_BYTES < size <= _QUICK_BYTES
    checksum = crc32(payload, crc32(_LENGTH.pack(size))) if small else _checksum(memoryview(payload))
    return _HEAD.pack(MAGIC, size, checksum) + payload


def _checksum(payload: memoryview) -> int:
    size = len(payload)
    so_far = crc32(_LENGTH.pack(size))
    if not _HELD_BYTES < size <= _QUICK_BYTES:
        return crc32(payload, so_far)
    # In pieces: releasing the GIL could make a caller wait up to 5 ms for a checksum of microseconds.
    for start in range(0, size, _HELD_BYTES):
        so_far = crc32(payload[start : start + _HELD_BYTES], so_far)
    return so_far


def scan(data: bytes, base: int = 0, *, final: bool = True) -> Iterator[Frame | Gap]:
    """Yield frames and gaps of `data`, whose first byte is at offset `base` of the segment; never raises.

    Items are contiguous. With `final`, an incomplete frame at the end is a gap; otherwise it is not yielded: continue
    from the end of the last item.
    """
    at = 0
    damaged: int | None = None
    while at < len(data):
        end = _frame_end(data, at)
        if end == _CUT and not final:
            break
        if end < 0:
            following = _next_magic(data, at + 1, final=final)
            if end == _CUT and following == len(data) and not _is_whole(data, at):
                if damaged is not None:
                    yield Gap(base + damaged, base + at)
                yield Gap(base + at, base + len(data), torn=True)
                return
            damaged = at if damaged is None else damaged
            at = following
            continue
        if damaged is not None:
            yield Gap(base + damaged, base + at)
            damaged = None
        yield Frame(base + at, base + end, data[at + HEAD_BYTES : end])
        at = end
    if damaged is not None:
        yield Gap(base + damaged, base + at)


def _frame_end(data: bytes, at: int) -> int:
    if len(data) - at < HEAD_BYTES:
        return _CUT if data.startswith(MAGIC[: len(data) - at], at) else _BAD
    magic, size, checksum = _HEAD.unpack_from(data, at)
    if magic != MAGIC or size > MAX_PAYLOAD:
        return _BAD
    end = at + HEAD_BYTES + int(size)
    if end > len(data):
        return _CUT
    return end if _checksum(memoryview(data)[at + HEAD_BYTES : end]) == checksum else _BAD


def _is_whole(data: bytes, at: int) -> bool:
    """Return whether the rest is one complete frame of which only the length was damaged."""
    if len(data) - at < HEAD_BYTES:
        return False
    return int(_HEAD.unpack_from(data, at)[2]) == _checksum(memoryview(data)[at + HEAD_BYTES :])


def _next_magic(data: bytes, start: int, *, final: bool) -> int:
    found = data.find(MAGIC, start)
    if found >= 0:
        return found
    # If more data may follow, the last bytes may be the beginning of a magic.
    return len(data) if final else max(start, len(data) - len(MAGIC) + 1)
