"""Clock: monotonic time for deadlines, which passes even where a test freezes the time.

freezegun replaces the functions of `time` in all modules. A deadline on a frozen clock never comes: a flush that waits
for a failing store would hang.
"""

from __future__ import annotations

import time
from typing import Final

_REAL: Final = (time.monotonic,)  # noqa: TID251
"""In a tuple, where freezegun does not look."""


def monotonic_s() -> float:
    """Return the monotonic time in seconds."""
    return _REAL[0]()
