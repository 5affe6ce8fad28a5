"""Work counted in calls of functions: the same on every machine, under any load and with coverage on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def calls_made_by(function: Callable[[], object]) -> int:
    """The calls, of Python's and of C's functions, that one call of `function` makes, itself among them."""
    function()  # what is done only the first time does not count
    made = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return made - 1  # the setprofile of the line above
