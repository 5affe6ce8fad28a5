"""Store keys: identify the stores a segment is for, as part of its file name, so that these get it and no others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callspan.spool.sink import Sink

_DIGITS: Final = 12


def store_key(directory: Path, sink: Sink) -> str:
    """Return a short hash of the store that a sink delivers to.

    A sink with a `path` is identified by that path relative to the spool: another mount of both gives the same key.
    """
    path = getattr(sink, "path", None)
    name = os.path.relpath(path.absolute(), directory.absolute()) if isinstance(path, Path) else sink.name
    return hashlib.sha256(f"{type(sink).__name__} {name}".encode()).hexdigest()[:_DIGITS]


def store_keys(directory: Path, sinks: Sequence[Sink]) -> tuple[str, ...]:
    """Return the key of each sink, in their order."""
    return tuple(store_key(directory, sink) for sink in sinks)
