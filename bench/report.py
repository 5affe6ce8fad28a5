"""The figures as markdown."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata

import peers
from rows import BARE, FLOOR
from startup import Startup
from timing import Measured, Spread

_PACKAGES = ("callspan", "openai", "anthropic", "httpx2", "opentelemetry-sdk", "msgspec", "wrapt")
_QUIET = 0.75
"""Load per CPU up to which a machine counts as quiet: the run itself keeps one of them busy."""
_LOADED = """
**The machine was loaded** (load average {load:.1f} over 15 minutes): others on it evict caches and blur every figure
below, small ones most. To be read as an order of magnitude until it is written anew on a quiet machine.
"""
_HELD = """\
KB added to each. A buffer of the SDKs' own, some 14 KB, is there or not as the moment has it, with callspan and
without: a figure that is off by that much is not callspan's doing. Compare several runs."""
_INTRODUCTION = """# What callspan costs

Written by `make bench`. CPU time of the calling thread, so that waiting for others on the machine does not count;
no network (mocked transport); content capture on; a real `TracerProvider` with a batch processor and an exporter
that does nothing. All rows of a table are run in turn in one process, round after round. Each round gives the lower
quartile of a block of runs; a figure is that of a row's quietest round, less that of the bare SDK's. In brackets are
the quartiles of what the row cost more than the bare SDK in the same round: the spread, as noise of the machine made
it. The floor is a raw OpenTelemetry span made by hand with the very attributes and events callspan gives that call.

Trust the ratios: they come from one run. The microseconds are this machine's, at that moment.
"""


def page(done: Sequence[Measured], starts: Startup, held_kb: Mapping[str, float]) -> str:
    """Return the whole page."""
    parts = [_INTRODUCTION, _conditions()]
    parts += [_table(each) for each in done]
    parts += [_startup(starts), _memory(held_kb), peers.section()]
    return "\n".join(parts)


def summary(measured: Measured) -> str:
    """Return one line for whoever watches."""
    floor = measured.added(FLOOR, BARE).middle
    rows = [name for name in measured.rounds if name not in (BARE, FLOOR)]
    figures = ", ".join(f"{name}: {measured.added(name, BARE).middle / 1000:.2f}" for name in rows)
    return (
        f"{measured.column.name}: bare {measured.cost(BARE).middle / 1000:.1f} µs, floor {floor / 1000:.2f}, {figures}"
    )


def _conditions() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    today = dt.datetime.now(tz=dt.timezone.utc).date()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    load = os.getloadavg()[2]
    noise = "" if load < _QUIET * (os.cpu_count() or 1) else _LOADED.format(load=load)
    return f"{today}, Python {platform.python_version()}, {machine}; {versions}.\n{noise}"


def _table(measured: Measured) -> str:
    column = measured.column
    floor = measured.added(FLOOR, BARE).middle
    rounds = len(measured.rounds[FLOOR])
    lines = [
        f"## {column.name}",
        "",
        f"Per {column.unit}, µs; {rounds} rounds.",
        "",
        "| | costs | adds | of bare | of the floor |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in measured.rounds:
        cost, added = measured.cost(name), measured.added(name, BARE)
        of_bare = "" if column.agent or name == BARE else f"{added.middle / measured.cost(BARE).middle:.1%}"
        of_floor = "" if name == BARE else f"{added.middle / floor:.2f}"
        shown = "" if name == BARE else _micro(added)
        lines.append(f"| {name} | {cost.middle / 1000:.1f} | {shown} | {of_bare} | {of_floor} |")
    return "\n".join([*lines, ""])


def _micro(spread: Spread) -> str:
    return f"{spread.middle / 1000:.2f} ({spread.low / 1000:.2f} to {spread.high / 1000:.2f})"


def _startup(starts: Startup) -> str:
    ratio = starts.import_ms / starts.trace_ms
    return "\n".join(
        [
            "## Starting up",
            "",
            "| | ms of CPU | of `import opentelemetry.trace` |",
            "| --- | --- | --- |",
            f"| `import opentelemetry.trace` | {starts.trace_ms:.1f} | 1 |",
            f"| `import callspan` | {starts.import_ms:.1f} | {ratio:.2f} |",
            f"| and `instrument()` | {starts.instrument_ms:.1f} | {starts.instrument_ms / starts.trace_ms:.2f} |",
            "",
            f"`instrument()` starts {starts.threads} threads.",
            "",
        ]
    )


def _memory(held_kb: Mapping[str, float]) -> str:
    rows = [f"| {family} | {kb:.1f} |" for family, kb in held_kb.items()]
    return "\n".join(["## Half-read streams", "", _HELD, "", "| | KB |", "| --- | --- |", *rows, ""])
