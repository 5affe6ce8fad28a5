"""How much a test does, and how fast this machine is just now.

A sample on each change, everything where `CALLSPAN_SCALE=full`, as in `make nightly`.
"""

from __future__ import annotations

import json
import os
import time
from typing import Final, TypeVar

T = TypeVar("T")

FULL: Final = os.environ.get("CALLSPAN_SCALE") == "full"
_REFERENCE_S: Final = 0.0014
_WORK: Final = [{"name": f"n{number}", "values": [number, str(number), None]} for number in range(400)]


def scaled(small: T, full: T) -> T:
    """Return what is tried on each change, or what is tried at night."""
    return full if FULL else small


def slowness() -> float:
    """Return how many times longer Python takes than on the machine of the bounds, at least 1.

    A bound of CPU seconds is multiplied by it.
    """
    return max(1.0, min(_taken_s() for _ in range(5)) / _REFERENCE_S)


def _taken_s() -> float:
    began_s = time.thread_time()
    for _ in range(4):
        for one in json.loads(json.dumps(_WORK)):
            one["all"] = "".join(map(str, one["values"]))
    return time.thread_time() - began_s
