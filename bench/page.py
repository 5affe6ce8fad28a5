"""The page `docs/benchmarks.md`: one part per target, each rewritten by its own and left alone by the others."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PARTS = ("times", "instructions", "peers", "scale")
PACKAGES = ("callspan", "openai", "anthropic", "httpx2", "opentelemetry-sdk", "msgspec", "wrapt")
_QUIET = 0.75
"""Load per CPU up to which a machine counts as quiet: the run itself keeps one of them busy."""
_LOADED = """
**The machine was loaded** (load average {load:.1f} over 5 minutes): others on it evict caches and blur every time in
this part, small ones most. To be read as an order of magnitude until it is written anew on a quiet machine.
"""
_HEAD = """# What callspan costs

Written by `make bench`, `make bench-peers` and `make scale`, each its own part.

- **Times** are CPU time of the calling thread, so that waiting for others on the machine does not count. All rows of
  a table are run in turn in one process, round after round; each round gives the lower quartile of a block of runs; a
  figure is that of a row's quietest round, less that of the bare SDK's.
- **Instructions** are counted by callgrind: the same on any machine under any load, to about one in a hundred. Not all
  instructions take the same time, so they are for comparing, not for converting.
- No network (mocked transport), content capture on, a real `TracerProvider` with a batch processor and an exporter
  that does nothing.
- **The floor** is a raw OpenTelemetry span made by hand with the very attributes and events callspan gives that call.

Trust the ratios: they come from one run. The microseconds are one machine's, at one moment.
"""


def put(name: str, text: str, page: Path = PAGE) -> None:
    """Replace one part of the page, and the head; the other parts stay as they are."""
    page.touch()
    with page.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        parts = {part: _found(part, file.read()) for part in PARTS if not file.seek(0)}
        parts[name] = f"<!-- {name}: begin -->\n\n{text.strip()}\n\n<!-- {name}: end -->\n"
        file.seek(0)
        file.truncate()
        file.write("\n".join([_HEAD, *(parts[part] for part in PARTS if parts[part])]))


def conditions(packages: Sequence[str] = PACKAGES, *, timed: bool = True) -> str:
    """Return when and on what a part was measured; `timed` says that load matters."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    load = os.getloadavg()[1]
    quiet = not timed or load < _QUIET * (os.cpu_count() or 1)
    return f"{today}, Python {platform.python_version()}, {machine}; {versions}.\n" + (
        "" if quiet else _LOADED.format(load=load)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _found(name: str, text: str) -> str:
    match = re.search(rf"<!-- {name}: begin -->\n.*?<!-- {name}: end -->\n", text, re.DOTALL)
    return match[0] if match else ""
