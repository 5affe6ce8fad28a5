"""Caller latency: wall time of calls at a steady rate, with records to SQLite and with spans only.

    python bench/caller_latency.py [--page] [SECONDS]

With `--page`: calls of a session with records to SQLite, alone and while Chromium shows the list and this session live
(`callspan view`); writes that part of docs/benchmarks.md.

Each row is a process of its own, which keeps what it has instrumented; the processes take turns, a block of calls each.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import callspan
import page

SPANS, SQLITE = "spans only", "records to SQLite"
ALONE, WATCHED = "no page", "page open"
PER_SECOND, SECONDS = 500, 60.0
MEDIAN_MS, P999_MS = 0.3, 1.0
"""What records to SQLite may add."""
_BLOCK_S = 2.0
_WARM = 300
_WIRE_S = 0.000_2
_HERE = Path(__file__).resolve()
_SESSION = "watched"
_WATCHED = """## Calls while a page shows them

Wall time of a call of 1 KB, 500 a second, in a session with records to SQLite: two processes that take turns, 2 s each.
The records of one of them are on two tabs of a browser, the list and the session, which read what is written about
twice a second (`python bench/caller_latency.py --page`).
"""


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
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        blocks = {row: stack.enter_context(_process(row, directory)) for row in taken}
        for _ in range(max(1, round(seconds * PER_SECOND / calls))):
            for row, block in blocks.items():
                taken[row] += block(calls)
    return {row: Latency.of(each) for row, each in taken.items()}


def rounds(seconds: float = SECONDS) -> list[dict[str, Latency]]:
    """Return the latency of calls alone and while a page shows them, of each block of so many seconds of calls."""
    calls = int(_BLOCK_S * PER_SECOND)
    found = []
    with ExitStack() as stack:
        blocks = {}
        for row in (ALONE, WATCHED):
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            blocks[row] = stack.enter_context(_process(row, directory))
            blocks[row](PER_SECOND)
        stack.enter_context(_browser(Path(directory, "calls.db")))
        for number in range(max(2, round(seconds / _BLOCK_S))):
            order = [*blocks.items()][:: -1 if number % 2 else 1]
            found.append({row: Latency.of(block(calls)) for row, block in order})
    return found


def watched_section(found: Sequence[dict[str, Latency]]) -> str:
    """Return the table of the rounds: medians, and how far apart the differences of the rounds are."""
    times = {row: [(one[row].median, one[row].p99) for one in found] for row in (ALONE, WATCHED)}
    rows = [(row, *_medians(*zip(*each, strict=True))) for row, each in times.items()]
    pairs = zip(times[ALONE], times[WATCHED], strict=True)
    added = [*zip(*((there[0] - here[0], there[1] - here[1]) for here, there in pairs), strict=True)]
    rows.append(("added, median of rounds", *(f"{statistics.median(values):+.3f}" for values in added)))
    quarters = [statistics.quantiles(values, n=4, method="inclusive") for values in added]
    rows.append(("half of the rounds", *(f"{low:+.3f} to {high:+.3f}" for low, _, high in quarters)))
    return page.table(("", "median, ms", "p99, ms"), rows)


def _medians(*each: Sequence[float]) -> Iterator[str]:
    return (f"{statistics.median(values):.3f}" for values in each)


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
def _browser(path: Path) -> Iterator[None]:
    """A browser that shows the list and the session of a store, live."""
    # Only this option needs a browser.
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "callspan.cli", "view", "--no-ship", "--store", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        printed = next(line for line in server.stdout or () if "token=" in line)
        address = next(word for word in printed.split() if "token=" in word)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context()
        for place in (address, f"{address.partition('?')[0]}#/session/{_SESSION}"):
            tab = context.new_page()
            tab.goto(place)
            tab.wait_for_selector("text=live")
        try:
            yield
        finally:
            browser.close()
            server.terminate()


@contextmanager
def _process(row: str, directory: str) -> Iterator[Callable[[int], list[int]]]:
    command = [sys.executable, str(_HERE), row, directory]
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


def _serve(row: str, directory: str) -> None:
    """Answer each line, a number of calls, with a line of what each took in nanoseconds."""
    # Only what is measured needs an SDK.
    from rows import instrumented, provider

    call = _call()
    settings: dict[str, Any] = {} if row == SPANS else {"stores": f"sqlite:///{directory}/calls.db"}
    with instrumented(provider(), **settings)() as wrap:
        work = wrap(call)
        for _ in range(_WARM):
            work()
        gc.collect()
        gc.freeze()
        for line in sys.stdin:
            with callspan.session("bench", session_id=_SESSION) if row in (ALONE, WATCHED) else nullcontext():
                taken = _paced(work, int(line))
            print(json.dumps(taken), flush=True)


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
    if sys.argv[1:2] in ([row] for row in (SPANS, SQLITE, ALONE, WATCHED)):
        _serve(*sys.argv[1:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="with a page open and without; writes the docs")
    parser.add_argument("seconds", nargs="?", type=float, help="of calls for each row")
    options = parser.parse_args()
    if options.page:
        neighbours = page.Neighbours()
        table = watched_section(rounds(options.seconds or SECONDS))
        page.put("watched", f"{_WATCHED}\n{page.conditions()}\n{table}{_load(neighbours)}")
    else:
        print(section(measure(options.seconds or 10.0)))
        print("load:", *(f"{load:.1f}" for load in os.getloadavg()))


def _load(neighbours: page.Neighbours) -> str:
    return (
        f"\nThe browser, the server and others kept {neighbours.busy():.1f} of {os.cpu_count()} CPUs busy meanwhile.\n"
    )


if __name__ == "__main__":
    main()
