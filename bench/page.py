"""Writes the page `docs/benchmarks.md`: one part per make target."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
README = PAGE.parent.parent / "README.md"
PARTS = ("times", "watched", "instructions", "peers", "apart", "weights", "scale", "service")
PACKAGES = ("callspan", "openai", "anthropic", "httpx2", "opentelemetry-sdk", "msgspec", "wrapt")
_QUIET = 0.1
"""CPUs kept busy by others up to which a machine counts as quiet."""
_LOADED = """
**The machine was not idle**: other processes used {busy:.1f} of its {cpus} CPUs. They evict caches and affect
every time in this part, small ones most: read the times as orders of magnitude.
"""
_HEAD = """# Overhead of callspan

| Question | Answer |
| --- | --- |
| how long does a call, a chunk or a step take with callspan? | [microseconds added](#summary-µs-added) |
| what does it take anywhere? | [instructions](#thousands-of-instructions-added), [allocations](#allocations-added) |
| what do other tracers cost? | [the others](#the-others), [apart](#a-plain-call-each-in-a-process-of-its-own) |
| what does it cost to start, and to deliver to a store? | [starting up](#starting-up), [delivery](#delivery) |
| how large is a span? | [a span's weight](#a-spans-weight) |
| where does the cost of a tool or timestep go? | [tools and timesteps](#tools-and-timesteps-with-an-otlp-store) |
| what does a service pay for all of it? | [a service](#a-service) |
| is it the same with many calls and streams at once? | [many at once](#many-at-once) |
| are calls slower while the page shows them? | [calls while a page shows them](#calls-while-a-page-shows-them) |

Use the ratios: they are from one run. The microseconds depend on the machine and the moment.
[How it is measured](#how-it-is-measured) stands at the end.
"""
_METHOD = """## How it is measured

`make bench`, `make bench-peers` and `bench/scale.py` each write a part of this page.

- **Times** are CPU time of the calling thread: waiting for other processes does not count. All rows of a table run in
  turn in one process, in rounds; each round gives the median of a block of runs. A figure is the median, over all
  rounds, of the difference between a row and the bare SDK in the same round.
- Every row is warmed up: a call is made a hundred times before it is measured, a slow one thirty times. For about
  fifty calls after a class was patched, the interpreter runs all code that uses the class slower. An application
  patches only once.
- **Instructions** are counted by callgrind: the same on any machine under any load, within about 1 %. Instructions
  take different times: use them to compare, not to estimate times.
- No network (mocked transport), content capture on, a real `TracerProvider` with a batch processor and an exporter
  that does nothing.
- **The floor** is a raw OpenTelemetry span with the same attributes and events as callspan's span of that call.
"""


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Replace one part of the page, its head and its end; the other parts stay as they are."""
    page.touch()
    with page.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        parts = {part: _found(part, file.read()) for part in PARTS if not file.seek(0)}
        parts[name] = _part(name, text)
        file.seek(0)
        file.truncate()
        file.write("\n".join([_HEAD, *(parts[part] for part in PARTS if parts[part]), _METHOD]))


class Neighbours:
    """How much of the machine others use, from when this is made."""

    def __init__(self) -> None:
        self._before = self._others_s(), time.monotonic()

    def busy(self) -> float:
        """Return how many CPUs others have kept busy on average, as far as the machine says."""
        others, since = self._before
        return max(0.0, self._others_s() - others) / max(0.001, time.monotonic() - since)

    def _others_s(self) -> float:
        stat = Path("/proc/stat")
        if not stat.exists():
            return 0.0
        user, nice, system, _, _, irq, soft, *_ = (int(field) for field in stat.read_text().split("\n")[0].split()[1:])
        return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def replace(name: str, text: str, file: Path) -> None:
    """Replace one part of a page that has it already, and nothing else."""
    before = file.read_text()
    part = _found(name, before)
    if not part:
        raise ValueError(f"{file.name} has no part {name!r}: it stands between <!-- {name}: begin --> and ... end")
    file.write_text(before.replace(part, _part(name, text)))


def conditions(neighbours: Neighbours | None = None, packages: Sequence[str] = PACKAGES) -> str:
    """Return when and on what a part was measured; None: it does not matter what others did."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    text = f"{today()}, Python {platform.python_version()}, {machine}; {versions}.\n"
    if neighbours is not None and (busy := neighbours.busy()) > _QUIET:
        text += _LOADED.format(busy=busy, cpus=os.cpu_count())
    return text


def today() -> str:
    """Return the date."""
    return dt.datetime.now(tz=dt.timezone.utc).date().isoformat()


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _part(name: str, text: str) -> str:
    return f"<!-- {name}: begin -->\n\n{text.strip()}\n\n<!-- {name}: end -->\n"


def _found(name: str, text: str) -> str:
    match = re.search(rf"<!-- {name}: begin -->\n.*?<!-- {name}: end -->\n", text, re.DOTALL)
    return match[0] if match else ""
