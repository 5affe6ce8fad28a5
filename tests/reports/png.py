"""Pixels of a screenshot, read with the standard library alone: 8 bits a channel, not interlaced."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}


class Picture(NamedTuple):
    """A picture, its rows as bytes."""

    width: int
    height: int
    channels: int
    rows: list[bytes]

    def at(self, x: int, y: int) -> tuple[int, int, int]:
        """The colour of a pixel."""
        red, green, blue = self.rows[y][x * self.channels : x * self.channels + 3]
        return red, green, blue


def read(path: Path) -> Picture:
    """The picture in a file."""
    data = path.read_bytes()
    assert data.startswith(_SIGNATURE)
    chunks = list(_chunks(data))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, interlaced) == (8, 0)
    channels = _CHANNELS[kind]
    plain = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    size = width * channels
    rows: list[bytes] = []
    above = bytes(size)
    for start in range(0, height * (size + 1), size + 1):
        above = _unfiltered(plain[start], plain[start + 1 : start + 1 + size], above, channels)
        rows.append(above)
    return Picture(width, height, channels, rows)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def _unfiltered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """Undo the filter of a line; see "Filter types" of the PNG specification."""
    out = bytearray(line)
    for at, value in enumerate(line):
        left = out[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind]
        out[at] = (value + guess) & 255
    return bytes(out)


def _paeth(left: int, above: int, corner: int) -> int:
    start = left + above - corner
    return min((left, above, corner), key=lambda one: abs(start - one))
