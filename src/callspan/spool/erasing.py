"""Erasing: overwrites records in the segments of a spool directory, also of those that running processes write.

A line becomes as many spaces: offsets stay what they are, and readers pass over it. A damaged line is looked at as it
stands, and so are those of rejected records, which have no checksum.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from callspan.spool.directory import REJECTED_FILE, segments_in
from callspan.spool.segment import lines_in, opened


def erase(directory: Path, is_gone: Callable[[bytes], bool]) -> int:
    """Erase the records of which `is_gone` is true, delivered or not, and return how many. Raises OSError."""
    return sum(_erase_in(path, is_gone) for path in (*segments_in(directory), directory / REJECTED_FILE))


def _erase_in(path: Path, is_gone: Callable[[bytes], bool]) -> int:
    erased = 0
    # A descriptor of its own: a write through the one that appends would append.
    with suppress(FileNotFoundError), opened(path, os.O_RDWR) as descriptor:
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        for start, end, whole in lines_in(data, 0):
            payload = data[start : end - 1] if whole is None else whole
            if payload and is_gone(payload):
                os.pwrite(descriptor, b" " * (end - 1 - start), start)
                erased += 1
        if erased:
            os.fsync(descriptor)
    return erased
