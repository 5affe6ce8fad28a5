"""How much a test does: a sample on each change, everything where `CALLSPAN_SCALE=full`, as in `make nightly`."""

from __future__ import annotations

import os
from typing import Final, TypeVar

T = TypeVar("T")

FULL: Final = os.environ.get("CALLSPAN_SCALE") == "full"


def scaled(small: T, full: T) -> T:
    """Return what is tried on each change, or what is tried at night."""
    return full if FULL else small
