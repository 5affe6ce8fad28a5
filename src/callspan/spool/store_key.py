"""Store key: identifies the set of stores a segment is for, as part of its file name, so that only they get it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callspan.spool.sink import Sink

_DIGITS: Final = 12


def store_key(directory: Path, sinks: Sequence[Sink]) -> str | None:
    """Return a short hash of this set of stores, whatever their order; None for no stores.

    A sink with a `path` is identified by that path relative to the spool: another mount of both gives the same key.
    """
    names = []
    for sink in sinks:
        path = getattr(sink, "path", None)
        name = os.path.relpath(path.absolute(), directory.absolute()) if isinstance(path, Path) else sink.name
        names.append(f"{type(sink).__name__} {name}")
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:_DIGITS] if names else None
