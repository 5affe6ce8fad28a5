"""Frames: the format of one record in a segment, and how a damaged segment is read.

A frame is `magic (4) | length u32 | crc32 u32 | payload`, little-endian; the checksum covers length and payload.
The magic holds bytes that no UTF-8 text can hold, so that JSON payloads never look like a frame's beginning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"\xf5CS\xfe"
MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Bytes; a longer length in a header is taken for damage."""

_HEAD: Final = struct.Struct("<4sII")
_LENGTH: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size

_HELD_BYTES: Final = 5 * 1024
"""Up to which zlib keeps the interpreter: of more it lets other threads run, and is let run again when they please."""
_QUICK_BYTES: Final = 256 * 1024
"""What is summed in some 30 µs."""

_CUT: Final = -1
_BAD: Final = -2


class Frame(NamedTuple):
    """One whole frame; offsets are those of the segment."""

    start: int
    end: int
    payload: bytes


class Gap(NamedTuple):
    """Bytes that are no frame."""

    start: int
    end: int
    torn: bool = False
    """The beginning of a frame whose append never returned, at the segment's end; anything else is damage."""


def encode(payload: bytes) -> bytes:
    """Return the frame of a payload of at most MAX_PAYLOAD bytes."""
    return _HEAD.pack(MAGIC, len(payload), _checksum(memoryview(payload))) + payload


def _checksum(payload: memoryview) -> int:
    size = len(payload)
    so_far = crc32(_LENGTH.pack(size))
    if not _HELD_BYTES < size <= _QUICK_BYTES:
        return crc32(payload, so_far)
    # In pieces: else a caller waits for the thread that delivers, up to 5 ms, for a sum of microseconds.
    for start in range(0, size, _HELD_BYTES):
        so_far = crc32(payload[start : start + _HELD_BYTES], so_far)
    return so_far


def scan(data: bytes, base: int = 0, *, final: bool = True) -> Iterator[Frame | Gap]:
    """Yield frames and gaps of `data`, whose first byte is at offset `base` of the segment; never raises.

    Items follow each other without holes. With `final`, bytes that begin a frame but do not end it are a gap;
    otherwise they are not yielded: read on from the end of the last item.
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
    """Whether the rest is one complete frame whose length alone was damaged."""
    if len(data) - at < HEAD_BYTES:
        return False
    return int(_HEAD.unpack_from(data, at)[2]) == _checksum(memoryview(data)[at + HEAD_BYTES :])


def _next_magic(data: bytes, start: int, *, final: bool) -> int:
    found = data.find(MAGIC, start)
    if found >= 0:
        return found
    # Unless nothing follows, the last bytes may be the beginning of a magic.
    return len(data) if final else max(start, len(data) - len(MAGIC) + 1)
