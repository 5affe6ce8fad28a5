"""What a half-read stream holds on to: resident Python memory, counted in a fresh interpreter."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import callspan
import wire
from columns import stream_of
from rows import provider

_STREAMS, _WARM, _READ = 30, 5, wire.CHUNKS // 2
_TIMES = 4
_FAMILIES = ("openai", "anthropic")


def measure() -> dict[str, float]:
    """Return the KB that callspan adds to an open stream of which half has been read, by SDK."""
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _added_kb(family: str) -> float:
    # One of the SDK's own buffers is there or not as the moment has it: the least of several has it less often.
    bare = min(_held_kb(stream_of(family)) for _ in range(_TIMES))
    handle = callspan.instrument(tracer_provider=provider())
    watched = min(_held_kb(stream_of(family)) for _ in range(_TIMES))
    handle.uninstrument()
    return watched - bare


def _held_kb(create: Callable[[], Any]) -> float:
    kept = [_half_read(create) for _ in range(_WARM)]
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    kept += [_half_read(create) for _ in range(_STREAMS)]
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    for stream, _ in kept:
        stream.close()
    return held / _STREAMS / 1024


def _half_read(create: Callable[[], Any]) -> tuple[Any, Iterator[Any]]:
    stream = create()
    events = iter(stream)
    for _ in range(_READ):
        next(events)
    return stream, events


if __name__ == "__main__":
    tracemalloc.start()
    print(json.dumps({family: _added_kb(family) for family in _FAMILIES}))
