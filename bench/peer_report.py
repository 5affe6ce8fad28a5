"""The peers' figures as Markdown, each with the bare SDK, the floor and callspan in the same process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import page
from peers import THEIRS, THEIRS_SUPPRESSED, Peer
from rows import BARE, DEFAULT, FLOOR, SUPPRESSED
from timing import Measured

_INTRODUCTION = """\
Each peer has an environment of its own (`.venv-bench`), with the same versions of the SDKs, content capture switched
on by its own setting, and its spans in the same batch processor. In its process the bare SDK, the floor, callspan with
default settings and the peer run in turn; so **each peer has a callspan figure of its own beside it**, and the ratio
of the two is what counts. Before each block what the peer has replaced in the SDKs is put there, and afterwards taken
away again, rather than trusting each `uninstrument()`.
"""
_NEWEST = """
Installed is the newest release that pip can put beside these SDKs from where this was measured; where the newest of
all is another one, it is named."""
_BETTER = "**Bold**: the peer costs less than callspan."
_TIMES = """\
Added CPU time of the calling thread, µs per call, chunk or event; in brackets how many times callspan's in the same
process. """
_APART = """
As an application has it: nothing is ever switched off again, after which the interpreter would have to adapt anew. CPU
time of the calling thread, 500 calls to settle and 1,000 measured, medians of five rounds of three processes.
"""
_SUPPRESSED = """\
Under OpenTelemetry's `suppress_instrumentation()`: thousands of instructions added to a plain call. A peer that adds
about what it adds without ignores it."""


class Place(Protocol):
    """What is known of a peer; `found` is what `peer_process.py` has written."""

    peer: Peer
    trouble: str
    newest: dict[str, str]
    found: dict[str, Any]


def text(places: Sequence[Place], neighbours: page.Neighbours) -> str:
    """Return the part of the page on the others."""
    parts = ["## The others", _INTRODUCTION, page.conditions(neighbours), _who(places), *_troubles(places)]
    there = [place for place in places if not place.trouble]
    times = [_figures(place, "measured", lambda each: each) for place in there]
    if any(times):
        parts += ["### The others by time", _TIMES + _BETTER, _compared(there, times, 1000, 2)]
        parts += ["### In parts of the bare SDK's cost", _parts(there, times)]
    instructions = [_figures(place, "counted", lambda each: each[0]) for place in there]
    if any(instructions):
        intro = "Thousands of instructions added; in brackets how many times callspan's. "
        parts += ["### The others by instructions", intro + _BETTER, _compared(there, instructions, 1000, 1)]
        parts += [_SUPPRESSED, _suppressed(there, instructions)]
        allocations = [_figures(place, "counted", lambda each: each[1]) for place in there]
        if all(each.rounds for figures in allocations for each in figures.values()):
            parts += [
                "### The others by allocations",
                "Calls of Python's allocator added. " + _BETTER,
                _compared(there, allocations, 1, 0),
            ]
    parts += [*_memory(there), *_starts(there), "### What they capture", _CAPTURED, _captured(there)]
    return "\n\n".join(part.strip() for part in parts)


_CAPTURED = """\
What one call leaves on its span or spans, as JSON, and whether all of the prompt and all of the answer is there. What
is not captured costs nothing."""


def apart(compared: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], neighbours: page.Neighbours) -> str:
    """Return the table of plain calls that were measured in processes of their own, by peer and round."""
    rows = []
    for name, rounds in compared.items():
        for column in rounds[0][BARE]:
            ours, theirs = (
                statistics.median((one[row][column] - one[BARE][column]) / 1e3 for one in rounds)
                for row in (DEFAULT, THEIRS)
            )
            bare = statistics.median(one[BARE][column] for one in rounds) / 1e3
            rows.append([name, column, f"{bare:.0f}", f"{ours:.0f}", f"{theirs:.0f}", f"{theirs / ours:.2f}"])
    heads = ["", "work", "bare, µs", "callspan adds", "it adds", "of callspan's"]
    parts = [
        "## A plain call, each in a process of its own",
        _APART,
        page.conditions(neighbours),
        page.table(heads, rows),
    ]
    return "\n\n".join(part.strip() for part in parts)


def brief(places: Sequence[Place]) -> str:
    """Return the few figures that the README shows: CPU time added by each, as a multiple of callspan's."""
    there = [place for place in places if place.found.get("measured")]
    figures = [_figures(place, "measured", lambda each: each) for place in there]
    rows = []
    for name in [name for name in _work(figures) if name.endswith(" sync")]:
        known = [measured[name] for measured in figures if name in measured]
        bare, ours = (min(value(each) for each in known) / 1000 for value in (_bare, _of(DEFAULT)))
        cells = [_multiple(measured[name]) if name in measured else "" for measured in figures]
        rows.append((f"{name.removesuffix(' sync')}, per {known[0].unit}", f"{bare:.0f} µs", f"{ours:.1f} µs", *cells))
    head = ("", "the bare SDK", "callspan adds", *(place.peer.name for place in there))
    return f"{_BRIEF.format(today=page.today())}\n{page.table(head, rows)}"


_BRIEF = """\
How much CPU time each tracer adds to a call, **as a multiple of what callspan adds** to the same call in the same
process: 2.0 costs twice as much as callspan, below 1 costs less. Content is captured by all of them; measured {today}.
Versions, instruction counts, memory, and what each captures: [benchmarks](docs/benchmarks.md).
"""


def _multiple(measured: Measured) -> str:
    theirs, ours = _of(THEIRS)(measured), _of(DEFAULT)(measured)
    return f"{theirs / ours:.1f}" if ours > 0 else ""


def _percent(measured: Measured) -> str:
    theirs, ours = (_of(row)(measured) / _bare(measured) for row in (THEIRS, DEFAULT))
    return f"{theirs:.0%} / {ours:.0%}" if min(theirs, ours) > 0.1 else f"{theirs:.1%} / {ours:.1%}"


def _who(places: Iterable[Place]) -> str:
    rows = []
    for place in places:
        versions = place.found.get("versions", {})
        shown = [
            f"{name} {versions.get(name, 'not installed')}"
            + (f" (newest: {newest})" if (newest := place.newest.get(name, "")) not in ("", versions.get(name)) else "")
            for name in place.peer.packages
        ]
        sdks = f"openai {versions.get('openai', '')}, anthropic {versions.get('anthropic', '')}"
        others = f"opentelemetry-sdk {versions.get('opentelemetry-sdk', '')}"
        rows.append((place.peer.name, ", ".join(shown) or "part of the SDK", f"{sdks}, {others}"))
    return page.table(("", "packages", "beside"), rows) + _NEWEST


def _troubles(places: Iterable[Place]) -> list[str]:
    return [f"{place.peer.name} {place.trouble}." for place in places if place.trouble]


def _figures(place: Place, kind: str, of: Callable[[Any], dict[str, Any]]) -> dict[str, Measured]:
    return {measured.name: measured for each in place.found.get(kind, []) for measured in [Measured(**of(each))]}


def _work(figures: Sequence[dict[str, Measured]]) -> list[str]:
    return list(dict.fromkeys(name for measured in figures for name in measured))


def _compared(places: Sequence[Place], figures: Sequence[dict[str, Measured]], scale: float, digits: int) -> str:
    head = ("work", "bare", "floor", "callspan", *(place.peer.name for place in places))
    rows = []
    for name in _work(figures):
        there = [measured[name] for measured in figures if name in measured]
        ours = [
            f"{min([value(each) for each in there]) / scale:.{digits}f}" for value in (_bare, _of(FLOOR), _of(DEFAULT))
        ]
        cells = [_against(measured[name], scale, digits) if name in measured else "" for measured in figures]
        rows.append((f"{name}, per {there[0].unit}", *ours, *cells))
    intro = "Bare, floor and callspan: the least of the processes.\n\n"
    return intro + page.table(head, rows)


def _against(measured: Measured, scale: float, digits: int) -> str:
    theirs, ours = _of(THEIRS)(measured), _of(DEFAULT)(measured)
    shown = f"{theirs / scale:.{digits}f}"
    if theirs < ours:
        shown = f"**{shown}**"
    return f"{shown} ({theirs / ours:.1f})" if ours > 0 else shown


def _parts(places: Sequence[Place], figures: Sequence[dict[str, Measured]]) -> str:
    head = ("work", *(f"{place.peer.name} / callspan" for place in places))
    rows = []
    for name in _work(figures):
        cells = [_percent(measured[name]) if name in measured else "" for measured in figures]
        rows.append((name, *cells))
    return page.table(head, rows)


def _suppressed(places: Sequence[Place], figures: Sequence[dict[str, Measured]]) -> str:
    rows = []
    for place, measured in zip(places, figures, strict=True):
        for name in (name for name in measured if "plain sync" in name):
            each = measured[name]
            values = (_of(THEIRS), _of(THEIRS_SUPPRESSED), _of(SUPPRESSED))
            rows.append((place.peer.name, name, *(f"{value(each) / 1000:.1f}" for value in values)))
    return page.table(("", "work", "adds", "suppressed", "callspan, suppressed"), rows)


def _memory(places: Sequence[Place]) -> list[str]:
    rows = [
        (place.peer.name, family, f"{kb[THEIRS]:.1f}", f"{kb[DEFAULT]:.1f}")
        for place in places
        for family, kb in place.found.get("held_kb", {}).items()
    ]
    if not rows:
        return []
    return [
        "### Half-read streams of the others",
        "KB of Python's memory added to each.",
        page.table(("", "", "theirs", "callspan"), rows),
    ]


def _starts(places: Sequence[Place]) -> list[str]:
    rows = [
        (place.peer.name, f"{found['started']:.0f}", f"{found['started-ours']:.0f}")
        for place in places
        if (found := place.found.get("started")) and not place.peer.built_in
    ]
    intro = "CPU milliseconds to import and switch on, where both SDKs are imported already and used."
    return ["### Starting up with the others", intro, page.table(("", "theirs", "callspan"), rows)] if rows else []


def _captured(places: Sequence[Place]) -> str:
    rows = [
        (place.peer.name, name, *(str(seen[what]) for what in ("spans", "attributes", "bytes")),
         *("yes" if seen[what] else "**no**" for what in ("prompt", "answer")))
        for place in places
        for name, seen in place.found.get("seen", {}).items()
    ]  # fmt: skip
    return page.table(("", "work", "spans", "attributes", "bytes", "prompt", "answer"), rows)


def _bare(measured: Measured) -> float:
    return measured.cost(BARE).middle


def _of(row: str) -> Callable[[Measured], float]:
    return lambda measured: measured.added(row, BARE).middle
