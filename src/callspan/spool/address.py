"""Addresses: for which stores a segment is, told by its file name, so that nobody else delivers it elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callspan.spool.sink import Sink

_DIGITS: Final = 12


def address_for(directory: Path, sinks: Sequence[Sink]) -> str | None:
    """Return a short name of this set of stores, in whatever order; None of none.

    A sink with a `path` counts by where that lies seen from the spool, so that another mount of both is the same.
    """
    names = []
    for sink in sinks:
        path = getattr(sink, "path", None)
        name = os.path.relpath(path.absolute(), directory.absolute()) if isinstance(path, Path) else sink.name
        names.append(f"{type(sink).__name__} {name}")
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:_DIGITS] if names else None
