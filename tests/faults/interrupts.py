"""Raises an interrupt at each executed line of callspan, one at a time, and checks the result.

    python interrupts.py [--share 0.05] [--seed 1] [--kinds ...] [--uses ...]      prints the results as JSON

For each use of callspan (`interrupt_uses.py`) the lines of ours that are executed on the calling thread are found by a
trace function, each once for every stack of ours it is executed in. Then the use is run once for each of them and each
kind of interrupt: at the line a signal is marked as arrived, as the C handler of CPython does it, and the interpreter
runs the Python handler where it next looks for signals. So only places are hit that a signal can hit.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import logging
import random
import signal
import sqlite3
import sys
import tempfile
import threading
from _thread import interrupt_main
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import fail_open
from callspan.observe.batches import LINES
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, Record, SessionRecord, TimestepRecord
from callspan.record.merging import ANSWER_VERSION
from callspan.sdk_profiles import SDKS
from callspan.settings_loader import load
from callspan.testing import ScriptedProvider
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers
from tests.faults.interrupt_uses import USES, Use, use_named

OURS = str(Path(callspan.__file__).parent)
NOT_OURS = tuple(str(Path(OURS, name)) for name in ("testing", "cli"))
CONTEXT = str(Path(otel_context.__file__).parent)
AFTERWARDS = 50
EVERY = 10
"""After so many points, and after each fault, a run that nothing interrupts has to be recorded as ever."""
DEEP = 12
"""How many callers of ours tell two stacks apart."""
UNRAISABLE: list[object] = []
"""Exceptions that the interpreter could give nobody: raised in a finalizer or a weak reference's callback."""


class TimeIsUpError(TimeoutError, KeyError, IndexError, TypeError, msgspec.ValidationError, RecursionError):
    """What a time limit raises; of as many kinds as can be, for code of ours expects some of them."""


def time_is_up(number: int, frame: FrameType | None) -> None:
    raise TimeIsUpError


def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(3)


# Each triggers without a step in Python, after which the interpreter would look for signals too early.
class Signalled:
    __getitem__ = interrupt_main


class Thrown:
    __getitem__ = staticmethod(
        functools.partial(
            ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.main_thread().ident or 0)
        )
    )


ctypes.pythonapi.PyThreadState_SetAsyncExc.argtypes = (ctypes.c_ulong, ctypes.py_object)


class Kind(NamedTuple):
    """One kind of interrupt."""

    trigger: Any
    of: Any
    raises: type[BaseException]
    has_frame: bool = True
    """Or is no `Exception`: then it can be distinguished from a bug in callspan."""


KINDS = {
    "KeyboardInterrupt": Kind(Signalled(), signal.SIGINT, KeyboardInterrupt),
    "SystemExit": Kind(Signalled(), signal.SIGUSR1, SystemExit),
    "exception of a signal handler": Kind(Signalled(), signal.SIGUSR2, TimeIsUpError),
    "KeyboardInterrupt by SetAsyncExc": Kind(Thrown(), KeyboardInterrupt, KeyboardInterrupt),
    "exception by SetAsyncExc": Kind(Thrown(), TimeIsUpError, TimeIsUpError, has_frame=False),
}


class Point(NamedTuple):
    """A line of ours, and which execution of it."""

    file: str
    line: int
    function: str
    number: int

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)}:{self.line} {self.function}, {self.number}"


def is_ours(frame: FrameType | None) -> bool:
    return (
        frame is not None
        and frame.f_code.co_filename.startswith(OURS)
        and not frame.f_code.co_filename.startswith(NOT_OURS)
    )


def is_context(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(CONTEXT)


def stack_of(frame: FrameType | None) -> tuple[object, ...]:
    """What tells the execution of a line from others: the lines of ours it was called from."""
    found: list[object] = []
    while frame is not None and len(found) < DEEP:
        if is_ours(frame):
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)


def points_of(run: Callable[[Callable[..., Any]], object]) -> list[Point]:
    """The lines that are executed, in the order of their first execution; the context's where we have called it."""
    found: dict[object, Point] = {}
    executed: Counter[tuple[str, int]] = Counter()

    def inside(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            file, line = frame.f_code.co_filename, frame.f_lineno
            executed[file, line] += 1
            below: FrameType | None = frame
            while is_context(below):
                below = below and below.f_back
            if is_ours(below):
                point = Point(file, line, frame.f_code.co_name, executed[file, line])
                found.setdefault((file, line, stack_of(frame)), point)
        return inside

    def around(frame: FrameType, event: str, argument: object) -> Any:
        return inside if is_ours(frame) or is_context(frame) else None

    run(around)
    return list(found.values())


class Reached:
    """Whether a point was reached, and where that was."""

    def __init__(self) -> None:
        self.count = 0
        self.done = self.elsewhere = False


def armed(point: Point, kind: Kind, use: Use, reached: Reached) -> Callable[..., Any]:
    """A trace function that interrupts at the point, once, and notes that it was reached."""
    trigger, of, file, line, number = kind.trigger, kind.of, point.file, point.line, point.number

    def inside(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and frame.f_lineno == line:
            reached.count += 1
            if reached.count == number:
                sys.settrace(None)
                reached.done, reached.elsewhere = True, use.elsewhere()
                trigger[of]
                return None
        return inside

    def around(frame: FrameType, event: str, argument: object) -> Any:
        return inside if frame.f_code.co_filename == file else None

    return around


def is_in_chain(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether the exception is of the kind, or was raised because of one: the SDKs wrap what comes out of httpx."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def at_the_end_of_a_block(raised: BaseException | None) -> bool:
    """Whether it was raised before the first instruction of an `__exit__` of ours, which the application calls."""
    trace = raised.__traceback__ if raised is not None else None
    while trace is not None and trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_filename != __file__:
        caller, trace = trace.tb_frame, trace.tb_next
        code = trace.tb_frame.f_code
        if code.co_name in ("__exit__", "__aexit__") and is_ours(trace.tb_frame) and not is_ours(caller):
            return trace.tb_lineno == code.co_firstlineno
    return False


def final(record: Record) -> tuple[str, str] | None:
    """The kind and id of a record that is the last of its kind; None for others."""
    if isinstance(record, CallRecord):
        kind = "fetch" if record.record_version == ANSWER_VERSION else "call"
        return None if record.outcome == "started" else (kind, record.call_id)
    if isinstance(record, SessionRecord):
        return None if record.end_ns is None else ("session", record.session_id)
    if isinstance(record, TimestepRecord):
        return None if record.end_ns is None else ("timestep", record.timestep_id)
    if isinstance(record, EventRecord) and record.duration_ns is not None:
        return record.event_type, record.event_id
    return None


KIND_OF = {
    "invoke_workflow": "session", "execute_tool": "tool", "invoke_agent": "agent", "chat": "call",
    "generate_content": "call", "fetch_response": "fetch",
}  # fmt: skip


@dataclass
class Seen:
    """What has come of what was done since last asked."""

    exporter: InMemorySpanExporter
    stored: bool
    finals: Counter[tuple[str, str]] = field(default_factory=Counter)
    begun: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    """Every call that was ever heard of."""

    def hear(self, record: Record) -> None:
        key = final(record)
        if key is not None:
            self.finals[key] += 1
            if key[0] == "call":
                self.calls.add(key[1])
        elif isinstance(record, CallRecord | SessionRecord | TimestepRecord):
            self.begun.add(getattr(record, type(record).__struct_fields__[0]))

    def take(self) -> tuple[Counter[str], Counter[str], int]:
        """Return the spans and the records by kind, by id: a record may be written again; and how many only began."""
        spans: Counter[str] = Counter()
        for span in self.exporter.get_finished_spans():
            word = span.name.split()[0]
            spans[KIND_OF.get(word, word)] += 1
        records = Counter(kind for kind, _ in self.finals) if self.stored else Counter(spans)
        left = len(self.begun - {identity for _, identity in self.finals})
        self.exporter.clear()
        self.finals.clear()
        self.begun.clear()
        return spans, records, left


@contextmanager
def instrumented(directory: str, *, stored: bool) -> Iterator[Seen]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen = Seen(exporter, stored)
    loaded = load({"stores": [f"sqlite:///{directory}/calls.db"] if stored else []}, environment={})
    parts = Providers(
        tracer_provider=provider, listeners=(lambda processed: seen.hear(processed.record),) if stored else ()
    )
    handle = WIRING.install(loaded, parts, SDKS)
    try:
        yield seen
    finally:
        handle.uninstrument()


def settle(use: Use) -> None:
    gc.collect(1)
    use.settle()
    WIRING.hook_context.deferred_ends.drain()
    LINES.drain(10.0)


def drops() -> int:
    spool = WIRING.pipeline and WIRING.pipeline.recorder.spool
    return sum(spool.drops().values()) if spool else 0


class Usual(NamedTuple):
    """What a run makes that nothing interrupts."""

    spans: Counter[str]
    records: Counter[str]


class Run:
    """All points of one use under one kind of interrupt."""

    def __init__(self, use: Use, seen: Seen, name: str, usual: Usual) -> None:
        self.use, self.seen, self.kind, self.name, self.usual = use, seen, KINDS[name], name, usual
        self.found: Counter[str] = Counter()
        self.faults: list[str] = []
        self.dropped = drops()

    def fault(self, what: str, point: Point | None) -> None:
        self.found[what] += 1
        if len(self.faults) < 40:
            stored = "stored" if self.seen.stored else "not stored"
            self.faults.append(f"{what}: {self.use.name}, {stored}, {self.name}, {point}")

    def sweep(self, points: list[Point]) -> None:
        for number, point in enumerate(points):
            faults = sum(self.found.values()) - self.found["points"]
            self.interrupt(point)
            if number % EVERY == 0 or sum(self.found.values()) - self.found["points"] > faults:
                self.well(point)

    def interrupt(self, point: Point) -> None:
        use, reached, begun = self.use, Reached(), self.use.begun
        fail_open.forget_failures()
        UNRAISABLE.clear()
        came = use.run(armed(point, self.kind, use, reached))
        # An `__exit__` that was not begun has ended nothing; what is around it, where there is something, does.
        unbegun = at_the_end_of_a_block(came.raised)
        if reached.done:  # some lines are executed only where a thread of ours is idle
            self.found["points"] += 1
            self.judge(came.raised, reached, point)
        if came.attached:
            if not unbegun:
                self.fault("contexts left", point)
            otel_context._RUNTIME_CONTEXT._current_context.set(otel_context.Context())  # type: ignore[attr-defined]
        del came
        settle(self.use)
        spans, records, left = self.seen.take()
        if reached.done:
            self.count(spans, records, 0 if unbegun else left, point, called=use.begun > begun)

    def judge(self, raised: BaseException | None, reached: Reached, point: Point) -> None:
        """Whether the waiting code has received the interrupt."""
        if UNRAISABLE:
            self.found["lost by the interpreter"] += 1
        elif at_the_end_of_a_block(raised):
            self.found["at the first instruction of a block's end"] += 1
        elif reached.elsewhere:
            self.found["in a task that nobody awaits"] += 1
        elif raised is None and self.use.swallows is not None and issubclass(self.kind.raises, self.use.swallows):
            self.found["swallowed by the SDK"] += 1
        elif raised is None:
            self.fault("swallowed", point)
        elif not is_in_chain(raised, self.kind.raises):
            self.fault(f"replaced by {raised!r}", point)

    def count(self, spans: Counter[str], records: Counter[str], left: int, point: Point, *, called: bool) -> None:
        paired = self.use.paired
        if called and paired and not (spans["call"] and records["call"]):
            self.fault(f"calls without {'a record' if spans['call'] else 'a span'}", point)
        if paired and spans != records:
            self.fault("spans and records differ", point)
        if paired and left:
            self.fault("begun and never ended", point)
        if spans - self.usual.spans or records - self.usual.records:
            self.fault("more spans or records than ever", point)

    def well(self, point: Point | None) -> None:
        """The next run is recorded as ever."""
        came = self.use.run()
        settle(self.use)
        spans, records, left = self.seen.take()
        if came.raised is not None or came.attached:
            self.fault(f"next runs that raise {came.raised!r}", point)
        elif Usual(spans, records) != self.usual or (self.use.paired and left):
            self.fault("next runs not recorded", point)

    def finish(self, directory: str) -> None:
        """Fifty runs more, and all that were heard of are stored."""
        for _ in range(AFTERWARDS):
            self.well(None)
        if not self.seen.stored:
            return
        if not WIRING.flush(30):
            self.fault("flushes that time out", None)
        if (dropped := drops() - self.dropped) > 0:
            self.found["records dropped and counted"] += dropped
        with sqlite3.connect(f"{directory}/calls.db") as connection:
            stored = {row[0] for row in connection.execute("SELECT call_id FROM calls WHERE outcome != 'started'")}
        connection.close()
        missing = self.seen.calls - stored
        if missing:
            self.found["records not stored"] += len(missing)


def chosen(points: list[Point], share: float, chance: random.Random) -> list[Point]:
    return points if share >= 1 else chance.sample(points, max(1, round(share * len(points))))


def usual_of(use: Use, seen: Seen) -> Usual:
    for _ in range(3):
        seen.take()
        came = use.run()
        assert came == (None, False), came
        settle(use)
    spans, records, left = seen.take()
    assert spans == records or not (use.paired and seen.stored), (spans, records)
    assert not (use.paired and left)
    return Usual(spans, records)


def measure(options: argparse.Namespace, provider: ScriptedProvider) -> Iterator[Run]:
    chance = random.Random(options.seed)
    for name in options.uses:
        use = use_named(name, provider)
        for stored in map(bool, options.stored):
            with tempfile.TemporaryDirectory() as directory, instrumented(directory, stored=stored) as seen:
                usual = usual_of(use, seen)
                points = points_of(use.run)
                settle(use)
                seen.take()
                gc.freeze()
                for kind in options.kinds:
                    run = Run(use, seen, kind, usual)
                    run.sweep(chosen(points, options.share, chance))
                    run.finish(directory)
                    yield run
        use.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--uses", nargs="*", default=USES)
    parser.add_argument("--stored", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--verbose", action="store_true", help="a line for each use as it is done")
    options = parser.parse_args()
    # What is logged is formatted as ever, and shown to nobody.
    logging.getLogger("callspan").addHandler(logging.NullHandler())
    logging.getLogger("callspan").propagate = False
    sys.unraisablehook = lambda lost: UNRAISABLE.append(lost.exc_type)
    # A shell that runs this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, leave)
    signal.signal(signal.SIGUSR2, time_is_up)
    results: dict[str, Counter[str]] = {name: Counter() for name in options.kinds}
    faults: list[str] = []
    with ScriptedProvider() as provider:
        provider.reply(text="I am well.", repeat=True)
        for run in measure(options, provider):
            results[run.name] += run.found
            faults += run.faults if run.kind.has_frame else ()
            if options.verbose:
                print(
                    run.use.name, run.seen.stored, run.name, dict(run.found), *run.faults, sep="\n  ", file=sys.stderr
                )
    json.dump({"results": results, "faults": faults}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
