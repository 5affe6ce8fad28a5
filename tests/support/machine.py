"""How fast this machine is just now: bounds of CPU time are set for the machine on which they were measured."""

from __future__ import annotations

import json
import time
from typing import Final

_REFERENCE_S: Final = 0.0014
_WORK: Final = [{"name": f"n{number}", "values": [number, str(number), None]} for number in range(400)]


def slowness() -> float:
    """Return how many times longer Python takes than there, at least 1: a bound of seconds is multiplied by it."""
    return max(1.0, min(_taken_s() for _ in range(5)) / _REFERENCE_S)


def _taken_s() -> float:
    began_s = time.thread_time()
    for _ in range(4):
        for one in json.loads(json.dumps(_WORK)):
            one["all"] = "".join(map(str, one["values"]))
    return time.thread_time() - began_s
