"""The memory of a half-read stream, counted in a fresh interpreter."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

import wire_bodies as wire
from columns import stream_of
from rows import instrumented, provider

FAMILIES = ("openai", "anthropic")
_STREAMS, _WARM, _READ = 20, 3, wire.CHUNKS // 2
_TIMES = 3


def measure() -> dict[str, float]:
    """Return the KB that callspan adds to an open stream of which half has been read, by SDK."""
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def held_kb(create: Callable[[], Any], tracing: TracerProvider) -> float:
    """Return the KB that one open stream holds; tracemalloc is on.

    A buffer of the SDKs' own is there or not as the moment has it: the least of several has it less often.
    """
    return min(_held_kb(create, tracing) for _ in range(_TIMES))


def added_kb(family: str, around: Callable[[], AbstractContextManager[object]], tracing: TracerProvider) -> float:
    """Return the KB that what is in force within `around` adds to an open stream."""
    bare = held_kb(stream_of(family), tracing)
    with around():
        return held_kb(stream_of(family), tracing) - bare


def _held_kb(create: Callable[[], Any], tracing: TracerProvider) -> float:
    kept = [_half_read(create) for _ in range(_WARM)]
    # Spans of earlier streams wait in the processor's queue, and would leave it meanwhile.
    tracing.force_flush()
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


def _main() -> None:
    tracemalloc.start()
    tracing = provider()

    def watched() -> AbstractContextManager[object]:
        return instrumented(tracing)()

    print(json.dumps({family: added_kb(family, watched, tracing) for family in FAMILIES}))


if __name__ == "__main__":
    _main()
