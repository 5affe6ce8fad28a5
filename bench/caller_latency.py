"""Caller latency: wall time of calls at a steady rate, with records to SQLite and with spans only.

    python bench/caller_latency.py [SECONDS]

Each row is a process of its own, which keeps what it has instrumented; the processes take turns, a block of calls each.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page

SPANS, SQLITE = "spans only", "records to SQLite"
PER_SECOND, SECONDS = 500, 60.0
MEDIAN_MS, P999_MS = 0.3, 1.0
"""What records to SQLite may add."""
_BLOCK_S = 2.0
_WARM = 300
_WIRE_S = 0.000_2
_HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Latency:
    """Wall milliseconds of the calls of one row."""

    median: float
    p99: float
    p999: float
    worst: float

    @classmethod
    def of(cls, taken_ns: Sequence[int]) -> Latency:
        """Return what is known of so many calls; there must be two."""
        cuts = statistics.quantiles(taken_ns, n=1000, method="inclusive")
        return cls(*(taken / 1e6 for taken in (statistics.median(taken_ns), cuts[989], cuts[998], max(taken_ns))))


def measure(seconds: float = SECONDS) -> dict[str, Latency]:
    """Return the latency of each row, after so many seconds of calls of each."""
    taken: dict[str, list[int]] = {SPANS: [], SQLITE: []}
    calls = int(min(_BLOCK_S, seconds) * PER_SECOND)
    with ExitStack() as stack:
        blocks = {row: stack.enter_context(_process(row)) for row in taken}
        for _ in range(max(1, round(seconds * PER_SECOND / calls))):
            for row, block in blocks.items():
                taken[row] += block(calls)
    return {row: Latency.of(each) for row, each in taken.items()}


def section(found: dict[str, Latency]) -> str:
    """Return the table, and beside it what records to SQLite add."""
    spans, sqlite = found[SPANS], found[SQLITE]
    rows = [(row, *(f"{value:.3f}" for value in _values(each))) for row, each in found.items()]
    added = [there - here for here, there in zip(_values(spans), _values(sqlite), strict=True)]
    rows.append(("added", *(f"{value:+.3f}" for value in added)))
    bars = (f"{MEDIAN_MS:+g}", "", f"{P999_MS:+g}", "")
    rows.append(("at most", *bars))
    missed = [
        name for name, value, most in (("median", added[0], MEDIAN_MS), ("p99.9", added[2], P999_MS)) if value > most
    ]
    text = page.table(("", "median, ms", "p99, ms", "p99.9, ms", "slowest, ms"), rows)
    return text + (f"\n**missed**: {', '.join(missed)}\n" if missed else "")


def _values(latency: Latency) -> tuple[float, float, float, float]:
    return latency.median, latency.p99, latency.p999, latency.worst


@contextmanager
def _process(row: str) -> Iterator[Callable[[int], list[int]]]:
    command = [sys.executable, str(_HERE), row]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def block(calls: int) -> list[int]:
            if process.stdin is None or process.stdout is None:
                raise ValueError("the process has no pipes")
            process.stdin.write(f"{calls}\n")
            process.stdin.flush()
            taken: list[int] = json.loads(process.stdout.readline())
            return taken

        try:
            yield block
        finally:
            if process.stdin is not None:
                process.stdin.close()


def _serve(row: str) -> None:
    """Answer each line, a number of calls, with a line of what each took in nanoseconds."""
    # Only what is measured needs an SDK.
    from rows import instrumented, provider

    call = _call()
    with tempfile.TemporaryDirectory() as directory:
        settings: dict[str, Any] = {"stores": f"sqlite:///{directory}/calls.db"} if row == SQLITE else {}
        with instrumented(provider(), **settings)() as wrap:
            work = wrap(call)
            for _ in range(_WARM):
                work()
            gc.collect()
            gc.freeze()
            for line in sys.stdin:
                print(json.dumps(_paced(work, int(line))), flush=True)


def _call() -> Callable[[], Any]:
    """A call of the SDK whose answer takes its time: what waits for a wire feels every other thread when it wakes."""
    import httpx2
    import openai

    import wire_bodies as wire

    def respond(request: httpx2.Request) -> httpx2.Response:
        del request
        time.sleep(_WIRE_S)
        return httpx2.Response(200, headers=wire.HEADERS["openai"], content=wire.openai_answer())

    transport = httpx2.MockTransport(respond)
    client = openai.OpenAI(api_key="sk-test", http_client=httpx2.Client(transport=transport), max_retries=0)
    messages: Any = wire.messages(1000)
    return lambda: client.chat.completions.create(model="gpt-5", messages=messages, max_completion_tokens=500)


def _paced(work: Callable[[], Any], calls: int) -> list[int]:
    taken, now = [], time.perf_counter_ns
    begun = now()
    for number in range(calls):
        time.sleep(max(0, begun + number * 10**9 // PER_SECOND - now()) / 1e9)
        before = now()
        work()
        taken.append(now() - before)
    return taken


def main() -> None:
    """Measure, or serve."""
    (argument,) = sys.argv[1:] or ["10"]
    if argument in (SPANS, SQLITE):
        _serve(argument)
        return
    print(section(measure(float(argument))))
    print("load:", *(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
