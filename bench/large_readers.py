"""The cost of reading a large store: CPU and memory of whole commands, start included, with the file in cache.

python bench/large_readers.py FILE    (made by large_store.py)
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MB = 1_000_000
COMMON = "ba"
"""Part of most texts."""

_OF_LINES = (
    ("calls",), ("sessions",), ("stats",), ("stats", "--by", "user"), ("show",), ("calls", "--text", COMMON),
    ("calls", "--text", "no such text"), ("report", "--output", "/dev/null"),
)  # fmt: skip
"""At most 0.12 ms a record, whatever is asked."""
_LEAST = (("--min-cost", "0.01"), ("--min-duration", "2s"))


class Bar(NamedTuple):
    """A command, and what it may take with 1,000,000 calls."""

    arguments: tuple[str, ...]
    cpu_s: float | None
    """None: it is measured only."""
    rss_mb: float = 300.0


class Cost(NamedTuple):
    """What a command took."""

    cpu_s: float
    rss_mb: float
    written: int
    """Bytes on stdout."""


def bars(path: Path) -> list[Bar]:
    """Return the commands for a store made by `large_store.py`, of JSON Lines those for 100,000 calls."""
    if path.suffix == ".jsonl":
        return [Bar(arguments, 12.0, 150.0) for arguments in _OF_LINES]
    word, phrase = _texts(path)
    return [
        Bar(("calls",), 1.5),
        Bar(("calls", "--offset", "100000"), None),
        Bar(("calls", "--model", "gpt-5-mini"), None),
        Bar(("calls", "--failed"), 1.5),
        Bar(("calls", "--user", "user-7"), 1.5),
        *(Bar(("calls", "--sort", key), 3.0) for key in ("cost", "duration", "tokens", "retries")),
        *(Bar(("sessions", "--sort", key), 3.0) for key in ("cost", "duration")),
        *(Bar((command, *least), 3.0) for command in ("calls", "sessions") for least in _LEAST),
        Bar(("stats", "--by", "user", "--by", "model"), None),
        Bar(("sessions",), 1.5),
        Bar(("sessions", "--user", "user-7"), 1.5),
        Bar(("stats",), 1.5),
        Bar(("stats", "--by", "session"), 1.5),
        Bar(("stats", "--by", "day"), 1.5),
        Bar(("stats", "--by", "user"), None),
        Bar(("show",), 1.5),
        Bar(("show", "long-session"), 1.5),
        Bar(("calls", "--text", word), 2.0),
        Bar(("calls", "--text", COMMON), 2.0),
        Bar(("calls", "--text", phrase), 2.0),
        Bar(("calls", "--text", phrase, "--reverse"), 2.0),
        Bar(("calls", "--text", phrase, "--model", "gpt-5"), 2.0),
        Bar(("calls", "--text", "no such text"), 2.0),
        Bar(("calls", "--text", "amuwonoba"), 2.0),
        Bar(("calls", "--text", "gr\u00f6\u00dfe"), 2.0),
        Bar(("show", "long-session", "--json"), 3.0, 100.0),
        Bar(("report", "--output", str(path.with_suffix(".html"))), 30.0),
    ]


def _texts(path: Path) -> tuple[str, str]:
    """A part of a word, and one of a text that crosses words."""
    connection = sqlite3.connect(path)
    text = str(
        connection.execute("SELECT text FROM contents WHERE role = 'assistant' LIMIT 1 OFFSET 777").fetchone()[0]
    )
    connection.close()
    longest = max(text.split(), key=len)
    return longest[1:].upper(), text[100:130]


def measured(path: Path, arguments: tuple[str, ...]) -> Cost:
    """Run a command. Raises ChildProcessError where it fails for another reason than that it finds nothing."""
    command = [sys.executable, "-m", "callspan.cli", "--store", str(path), *arguments]
    # Records that wait for other stores would be looked at first.
    alone = {**os.environ, "XDG_STATE_HOME": str(path.parent)}
    # As installed: modules are compiled once, not by each command.
    alone.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=alone)
    written = 0
    while process.stdout is not None and (chunk := process.stdout.read(1 << 16)):
        written += len(chunk)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise ChildProcessError(f"{arguments}: exit code {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / MB, written)


def cost_of(path: Path, bar: Bar) -> Cost:
    """Return what a command takes; the least of three where it takes more than it may."""
    cost = measured(path, bar.arguments)
    for _ in range(2):
        if is_missed(bar, cost):
            cost = min(cost, measured(path, bar.arguments))
    return cost


def is_missed(bar: Bar, cost: Cost) -> bool:
    """Return whether a command takes more than it may."""
    return (bar.cpu_s is not None and cost.cpu_s > bar.cpu_s) or cost.rss_mb > bar.rss_mb


def main() -> None:
    """Print what each command takes beside its bar; exit code 1 if one takes more."""
    path = Path(sys.argv[1])
    only, number = sys.argv[2:], 0
    print("| Command | CPU s | bar | MB | bar | output |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for bar in bars(path):
        if only and bar.arguments[0] not in only:
            continue
        cost = cost_of(path, bar)
        missed = " **missed**" if is_missed(bar, cost) else ""
        number += bool(missed)
        limit = "-" if bar.cpu_s is None else f"{bar.cpu_s:g}"
        print(
            f"| `{' '.join(bar.arguments)}` | {cost.cpu_s:.2f} | {limit} | {cost.rss_mb:.0f} | {bar.rss_mb:g} |"
            f" {cost.written:,}{missed} |",
            flush=True,
        )
    sys.exit(number > 0)


if __name__ == "__main__":
    main()
