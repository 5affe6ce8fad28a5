"""Runs in a peer's environment: measures one peer, the bare SDK, the floor and callspan."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import callspan
import counting
import timing
import weights
import wire_bodies as wire
from columns import Column, columns, stream_of
from open_streams import held_kb
from peers import PEERS, THEIRS, THEIRS_SUPPRESSED, Peer, native_options
from rows import BARE, DEFAULT, FLOOR, SUPPRESSED, Row, Wrap, instrumented, provider, rows, same
from toggles import Toggle
from valgrind import Counter

_SETTLED, _CALLS = 500, 1000
"""Calls before the interpreter has adapted to all of them, and measured ones."""
_VERSIONS = ("openai", "anthropic", "opentelemetry-sdk", "wrapt", "pydantic")


class Seen(SpanProcessor):
    """Keeps the attributes and events of the spans that ended."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        events = [dict(event.attributes or {}) for event in span.events]
        self.spans.append({**(span.attributes or {}), **({"events": events} if events else {})})


class Stage:
    """The columns that a peer knows, and the peer as a row of each."""

    def __init__(self, peer: Peer, tracing: TracerProvider, wanted: str, *, brief: bool) -> None:
        self.peer, self.tracing = peer, tracing
        known = [column for column in columns() if wanted in column.name and self._knows(column)]
        self.work = [column for column in known if not (brief and _is_costly(column))]
        # What the SDKs fill in at first use is no patch: it has to be there before anything is compared.
        for column in self.work:
            column.run(1, same, lambda: 0)
        self._toggle = Toggle(lambda: peer.switch_on(tracing))
        options = native_options(tracing) if peer.built_in else {}
        self.options = {"anthropic": options, "openai": {}}
        self._twins = {column.name: column.one for column in columns(**options)} if peer.built_in else {}

    def _knows(self, column: Column) -> bool:
        own = column.agent or column.alone or f" {wire.FEW}-" in column.name
        return not own and column.name.split()[0] in self.peer.families

    def theirs(self, column: Column) -> Row:
        """Return the row of the peer for a column."""

        @contextmanager
        def around() -> Iterator[Wrap]:
            with self._toggle.on():
                yield (lambda _: self._twins[column.name]) if self._twins else same

        return Row(THEIRS, around)

    def theirs_suppressed(self, column: Column) -> Row:
        """Return the same, called under OpenTelemetry's suppression."""

        @contextmanager
        def around() -> Iterator[Wrap]:
            with self.theirs(column).around() as wrap, suppress_instrumentation():
                yield wrap

        return Row(THEIRS_SUPPRESSED, around)

    def rows(self, column: Column, *ours: str) -> list[Row]:
        """Return the rows of ours that are named, and theirs."""
        return [*(row for row in rows(column, self.tracing) if row.name in ours), self.theirs(column)]


def _is_costly(column: Column) -> bool:
    return column.long or column.is_async


def times(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """Return CPU times and the KB of open streams."""
    gc.collect()
    gc.freeze()
    measured = [
        timing.measure(column, stage.rows(column, BARE, FLOOR, DEFAULT), options.seconds, 2 if options.quick else 5)
        for column in stage.work
    ]
    return {
        "measured": [dataclasses.asdict(each) for each in measured],
        "held_kb": {} if options.quick else _held(stage),
    }


def instructions(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """Return instructions and allocations, as callgrind counts them."""
    counter = Counter(options.file.parent)
    gc.collect()
    gc.freeze()
    counted = []
    for column in stage.work:
        compared = [*stage.rows(column, BARE, FLOOR, DEFAULT, SUPPRESSED), stage.theirs_suppressed(column)]
        counted.append([dataclasses.asdict(each) for each in counting.count(column, compared, counter)])
    return {"counted": counted}


def seen(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a call and a stream of each SDK leave behind: spans, bytes, and whether the content is there."""
    notes: Seen = options.notes
    found = {}
    for column in stage.work:
        if column.name.endswith(" sync"):
            notes.spans.clear()
            with stage.theirs(column).around() as wrap:
                column.run(1, wrap, lambda: 0)
            shown = json.dumps(notes.spans, default=str)
            found[column.name] = {
                "spans": len(notes.spans),
                "attributes": sum(len(span) for span in notes.spans),
                "bytes": len(shown),
                "prompt": wire.prose(900) in shown,
                "answer": (" tram" * wire.CHUNKS if "stream" in column.name else wire.prose(290)) in shown,
            }
    return {"seen": found, "patches": len(stage._toggle.changes), "versions": _versions(stage.peer)}


def started(peer: Peer, *, ours: bool) -> dict[str, Any]:
    """Return the CPU milliseconds of importing and switching on, the SDKs being there already."""
    columns()
    tracing = provider()
    before = time.process_time_ns()
    if ours:
        callspan.instrument(tracer_provider=tracing)
    else:
        peer.switch_on(tracing)
    return {"started_ms": (time.process_time_ns() - before) / 1e6}


def apart(peer: Peer, tracing: TracerProvider, row: str, wanted: str) -> dict[str, Any]:
    """Return the CPU nanoseconds of a call of each SDK in a process in which nothing else is ever switched on."""
    options = native_options(tracing) if peer.built_in and row == THEIRS else {}
    if row == DEFAULT:
        callspan.instrument(tracer_provider=tracing)
    elif row == THEIRS:
        peer.switch_on(tracing)
    found = {}
    for column in columns(**options):
        if wanted in column.name and column.name.split()[0] in peer.families:
            column.run(_SETTLED, same, time.thread_time_ns)
            gc.collect()
            found[column.name] = statistics.median(column.run(_CALLS, same, time.thread_time_ns))
    return {"apart": found}


def weighed(peer: Peer, *, content: bool) -> dict[str, Any]:
    """Return the bytes of the spans of a call as OTLP, ours and theirs."""
    family = peer.families[0]
    mine = weights.ours(family, "full" if content else "off")
    scale = weights.Scale()
    tracing = scale.provider()
    options = native_options(tracing) if peer.built_in else {}
    peer.switch_on(tracing)
    theirs = weights.weigh(family, scale, **options)
    return {"weighed" if content else "weighed-without": {"theirs": theirs, "ours": mine}}


def _held(stage: Stage) -> dict[str, dict[str, float]]:
    tracemalloc.start()
    found = {}
    for family in stage.peer.families:
        states: dict[str, Callable[[], AbstractContextManager[object]]] = {
            BARE: ExitStack,
            DEFAULT: instrumented(stage.tracing),
            THEIRS: stage._toggle.on,
        }
        kb = {}
        for name, around in states.items():
            create = stream_of(family, **(stage.options[family] if name == THEIRS else {}))
            with around():
                kb[name] = held_kb(create, stage.tracing)
        found[family] = {name: kb[name] - kb[BARE] for name in (DEFAULT, THEIRS)}
    return found


def _versions(peer: Peer) -> dict[str, str]:
    return {name: metadata.version(name) for name in (*peer.packages, *_VERSIONS)}


_KINDS = {"times": times, "instructions": instructions, "seen": seen}


def main() -> None:
    """Measure one kind of figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*_KINDS, "apart", "started", "started-ours", "weighed", "weighed-without"])
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--columns", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--row", choices=(BARE, DEFAULT, THEIRS), default=BARE)
    options = parser.parse_args()
    # What the peers warn of is heard by nobody, as printing it would cost them more than it has to.
    logging.getLogger().addHandler(logging.NullHandler())
    peer = PEERS[options.name]
    if options.kind in _KINDS:
        tracing, options.notes = provider(), Seen()
        if options.kind == "seen":
            tracing.add_span_processor(options.notes)
        brief = options.quick or options.kind != "times"
        found = _KINDS[options.kind](Stage(peer, tracing, options.columns, brief=brief), options)
    elif options.kind == "apart":
        found = apart(peer, provider(), options.row, options.columns)
    elif options.kind.startswith("weighed"):
        found = weighed(peer, content=options.kind == "weighed")
    else:
        found = started(peer, ours=options.kind.endswith("ours"))
    options.file.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
