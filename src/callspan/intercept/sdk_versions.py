"""SDK versions: the SDK of a call as records state it."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata

from callspan.runtime.fail_open import value_of


@lru_cache(maxsize=32)
def sdk_of(distribution: str) -> str:
    """Return the name and version of an installed SDK."""
    version = value_of(lambda: metadata.version(distribution))
    return f"{distribution}/{version}" if version else distribution
