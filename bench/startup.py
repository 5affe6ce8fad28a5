"""The CPU time of importing and instrumenting, in fresh interpreters."""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass

_PROGRAM = "import time; a = time.process_time_ns(); {work}; print(time.process_time_ns() - a)"
_TRACE = "import opentelemetry.trace"
_IMPORT = "import callspan"
_USE = "import callspan; callspan.instrument(tracer_provider=None, sdks=()).uninstrument()"
_THREADS = "import threading, callspan; callspan.instrument(); print(threading.active_count() - 1)"


@dataclass(frozen=True)
class Startup:
    """Milliseconds of CPU; `threads` is how many `instrument()` starts."""

    trace_ms: float
    import_ms: float
    instrument_ms: float
    threads: int


def measure(rounds: int) -> Startup:
    """Return the medians of `rounds` interleaved starts of each kind."""
    taken: dict[str, list[float]] = {_TRACE: [], _IMPORT: [], _USE: []}
    for _ in range(rounds):
        for work, times in taken.items():
            times.append(int(_fresh(_PROGRAM.format(work=work))) / 1e6)
    trace_ms, import_ms, use_ms = (statistics.median(times) for times in taken.values())
    return Startup(trace_ms, import_ms, use_ms, int(_fresh(_THREADS)))


def _fresh(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
