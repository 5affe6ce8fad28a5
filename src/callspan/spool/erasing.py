"""Erasing: overwrites records in the segments of a spool directory, also of those that running processes write.

A line becomes as many spaces: offsets stay what they are, and readers pass over it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from callspan.spool.directory import REJECTED_FILE, segments_in
from callspan.spool.segment import lines_in, open_private

_WINDOW: Final = 1 << 20


def payloads_in(directory: Path) -> Iterator[bytes]:
    """Yield the records in the segments of a directory, delivered ones too. Raises OSError."""
    for path in segments_in(directory):
        with suppress(FileNotFoundError):
            descriptor = open_private(path, os.O_RDONLY)
            try:
                yield from (payload for _, _, payload in _records_in(descriptor, plain=False))
            finally:
                os.close(descriptor)


def erase(directory: Path, is_gone: Callable[[bytes], bool]) -> int:
    """Erase the records of which `is_gone` is true, delivered or not, and return how many. Raises OSError."""
    return sum(_erase_in(path, is_gone) for path in (*segments_in(directory), directory / REJECTED_FILE))


def _erase_in(path: Path, is_gone: Callable[[bytes], bool]) -> int:
    erased = 0
    with suppress(FileNotFoundError):
        # A descriptor of its own: a write through the one that appends would append.
        descriptor = open_private(path, os.O_RDWR)
        try:
            for start, end, payload in _records_in(descriptor, plain=path.name == REJECTED_FILE):
                if is_gone(payload):
                    os.pwrite(descriptor, b" " * (end - 1 - start), start)
                    erased += 1
            if erased:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return erased


def _records_in(descriptor: int, *, plain: bool) -> Iterator[tuple[int, int, bytes]]:
    """Yield where the records of a file stand, and each of them; `plain`: its lines have no checksum."""
    offset, window = 0, _WINDOW
    while data := os.pread(descriptor, window, offset):
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            if len(data) < window:
                return
            window *= 4
            continue
        for line in lines_in(whole, offset):
            payload = whole[line.start - offset : line.end - 1 - offset] if plain else line.payload
            if payload:
                yield line.start, line.end, payload
        offset, window = offset + len(whole), _WINDOW
