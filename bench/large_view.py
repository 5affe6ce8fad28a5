"""What the page takes of a large store: CPU of its server for each page, its start, and the memory of all together.

python bench/large_view.py FILE [NAME]    (made by large_store.py with an episode; NAME: part of the pages' names)
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import large_store
from callspan.cli.command_context import store_errors
from callspan.cli.view import arguments, chosen
from callspan.stores.urls import open_store
from callspan.view.server import PAGES
from callspan.view.source import Access, Query, StoreSource

RSS_MB = 200.0
START_S = 0.5


class Bar(NamedTuple):
    """A page, and the CPU that it may take with 1,000,000 calls and 100,000 steps."""

    page: str
    cpu_s: float
    query: Query


class Cost(NamedTuple):
    """What a page took."""

    cpu_s: float
    written: int
    """Bytes of its JSON."""


def bars() -> Iterator[Bar]:
    """Yield the pages of a store made by `large_store.py`."""
    yield Bar("now", 1.0, {})
    for line in ("", "user:user-7", "failed", "min-cost:0.0001", "sort:cost", "sort:duration", "sort:tokens"):
        yield Bar("sessions", 1.0, {"q": line})
        yield Bar("calls", 1.0, {"q": line})
    for session in (large_store.LONG, large_store.EPISODE):
        yield Bar("session", 1.0, {"id": session})
    yield Bar("charts", 5.0, {"q": ""})
    yield Bar("table", 5.0, {"q": "", "by": "user"})
    yield Bar("table", 5.0, {"q": "", "by": "model"})
    yield Bar("scores", 5.0, {"q": ""})


def source_of(path: Path) -> StoreSource:
    """Return the store as the server reads it."""
    access = Access(
        open=partial(open_store, str(path)),
        chosen=chosen,
        arguments=arguments,
        error_text=str,
        errors=store_errors,
        waiting=list,
        keep=lambda _: None,
        name=str(path),
    )
    return StoreSource(access)


def cost_of(source: StoreSource, page: Callable[..., object], query: Query) -> tuple[Cost, bytes]:
    """Read a page, and return what it took, and its JSON."""
    began = time.process_time()
    body = source.answer(page, query)
    return Cost(time.process_time() - began, len(body)), body


def start_cost(path: Path) -> float:
    """Return the CPU seconds of `callspan view` until it prints its address."""
    command = [sys.executable, "-m", "callspan.cli", "--store", str(path), "view", "--no-ship"]
    alone = {**os.environ, "XDG_STATE_HOME": str(path.parent), "PYTHONUNBUFFERED": "1"}
    alone.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alone)
    assert process.stdout is not None
    for line in process.stdout:
        if b"http://" in line:
            break
    process.kill()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = -9
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print what each page takes beside its bar; exit code 1 if one takes more."""
    path, only = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    source, missed = source_of(path), 0
    print("| Page | CPU s | bar | KB |\n| --- | ---: | ---: | ---: |")

    def show(name: str, cost: Cost, bar_s: float) -> None:
        nonlocal missed
        missed += cost.cpu_s > bar_s
        late = " **missed**" if cost.cpu_s > bar_s else ""
        print(f"| `{name}` | {cost.cpu_s:.2f} | {bar_s:g} | {cost.written // 1000:,}{late} |", flush=True)

    if not only:
        show("start", Cost(min(start_cost(path) for _ in range(3)), 0), START_S)
    for bar in bars():
        name = " ".join([bar.page, *(one for one in bar.query.values() if one)])
        if only in name:
            cost, body = cost_of(source, PAGES[bar.page], bar.query)
            show(name, cost, bar.cpu_s)
            following = json.loads(body).get("next")
            if following is not None:
                query = {**bar.query, "after": following}
                show(f"{name}, second page", cost_of(source, PAGES[bar.page], query)[0], bar.cpu_s)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"\n{rss_mb:.0f} MB at most (bar {RSS_MB:g})")
    sys.exit(missed > 0 or rss_mb > RSS_MB)


if __name__ == "__main__":
    main()
