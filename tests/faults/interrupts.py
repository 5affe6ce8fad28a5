"""Raises an interrupt at executed lines, one at a time, and checks what came of it and of what follows.

    python -m tests.faults.interrupts [--every 13] [--uses ...] [--kinds ...]      prints the results as JSON

For each use of callspan (`interrupt_uses.py`) the lines of callspan that are executed on the calling thread are found
by a trace function, each once for every stack of callspan it is executed in; and the lines of the SDK and its HTTP
library, each once. At every so many of them the use is run once, with one kind of interrupt after the other. Then the
same is done again, and a call is made.

Most kinds mark a signal as arrived, as the C handler of CPython does it, and the interpreter runs the Python handler
where it next looks for signals. One raises before the line itself: interpreters differ in where they look.
"""

from __future__ import annotations

import argparse
import ctypes
import dis
import faulthandler
import functools
import gc
import itertools
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from _thread import interrupt_main
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import Counter as CounterInstrument
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import fail_open
from callspan.record.call import NO_BODY
from callspan.record.merging import order_of
from callspan.records import CallRecord, EventRecord, Record, SessionRecord, TimestepRecord, decode
from callspan.sdk_profiles import SDKS
from callspan.settings_loader import load
from callspan.testing import ScriptedProvider
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers
from tests.faults.interrupt_uses import USES, Came, Trace, Use, use_named

OURS = str(Path(callspan.__file__).parent)
NOT_OURS = tuple(str(Path(OURS, name)) for name in ("testing", "cli"))
CONTEXT = str(Path(otel_context.__file__).parent)
THEIRS = ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2", "h11")
LOCKS = "_synchronization.py"
"""The HTTP library's. A signal may be handled where a lock is left, before it is: the next request hangs, without
callspan too."""
TIME_LIMIT_S = 60.0
"""After which what is done for one point hangs."""
OTHERS = 8
"""Of the lines of others that many times fewer are interrupted."""
NEVER = ("next", "repeated runs")
"""Not even what looks like a bug of callspan may cause these."""
MEASURED = ("gen_ai.client.operation.duration", "gen_ai.client.token.usage")
"""Before the next call can begin; a cost is known on delivery."""
DELTA = dict.fromkeys((CounterInstrument, Histogram), AggregationTemporality.DELTA)
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


class Raised:
    """Raises in the trace function, as a debugger does: before the line itself, also where no signal is looked for."""

    def __getitem__(self, kind: type[BaseException]) -> None:
        raise kind


class Kind(NamedTuple):
    """One kind of interrupt."""

    trigger: Any
    of: Any
    raises: type[BaseException]
    has_frame: bool = True
    """Or is no `Exception`: then it can be distinguished from a bug in callspan."""


AMBIGUOUS = "exception by SetAsyncExc"
"""May cost telemetry, like any bug in callspan."""
AT_LINE = "KeyboardInterrupt at the line"
THROWN = "KeyboardInterrupt by SetAsyncExc"
KINDS = {
    "KeyboardInterrupt": Kind(Signalled(), signal.SIGINT, KeyboardInterrupt),
    "SystemExit": Kind(Signalled(), signal.SIGUSR1, SystemExit),
    "exception of a signal handler": Kind(Signalled(), signal.SIGUSR2, TimeIsUpError),
    AT_LINE: Kind(Raised(), KeyboardInterrupt, KeyboardInterrupt),
    THROWN: Kind(Thrown(), KeyboardInterrupt, KeyboardInterrupt),
    AMBIGUOUS: Kind(Thrown(), TimeIsUpError, TimeIsUpError, has_frame=False),
}


class Point(NamedTuple):
    """A line of ours, and which execution of it."""

    file: str
    line: int
    function: str
    number: int
    leaves_block: bool = False
    """It calls the `__exit__` of a `with` block; an exception before that is Python's, which no signal can cause."""

    @property
    def is_ours(self) -> bool:
        return not is_their_file(self.file)

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)}:{self.line} {self.function}, {self.number}"


def is_ours(frame: FrameType | None) -> bool:
    return (
        frame is not None
        and frame.f_code.co_filename.startswith(OURS)
        and not frame.f_code.co_filename.startswith(NOT_OURS)
    )


@functools.cache
def is_their_file(file: str) -> bool:
    return not file.endswith(LOCKS) and any(f"/site-packages/{name}/" in file for name in THEIRS)


def is_theirs(frame: FrameType | None) -> bool:
    return frame is not None and is_their_file(frame.f_code.co_filename)


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


def points_of(run: Callable[[Trace], object], wanted: Callable[[FrameType | None], bool]) -> list[Point]:
    """The lines that are executed, in the order of their first execution; the context's where we have called it."""
    found: dict[object, Point] = {}
    executed: Counter[tuple[str, int]] = Counter()
    # A coroutine's frame is entered whenever it goes on.
    taking, leaving = set[FrameType](), set[FrameType]()

    def inside(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            file, line = frame.f_code.co_filename, frame.f_lineno
            executed[file, line] += 1
            below: FrameType | None = frame
            while is_context(below):
                below = below and below.f_back
            if wanted(below) and len(taking) == len(leaving):
                key = (file, line, stack_of(frame) if wanted is is_ours else None)
                if key not in found:
                    name = frame.f_code.co_name
                    found[key] = Point(file, line, name, executed[file, line], leaves_block(frame))
        return inside

    def around(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename.endswith(LOCKS):
            {"enter": taking, "exit": leaving}.get(frame.f_code.co_name.strip("_a"), set()).add(frame)
        return inside if wanted(frame) or is_context(frame) else None

    run(around)
    return list(found.values())


def leaves_block(frame: FrameType) -> bool:
    """Whether the next instructions pass three times None to an `__exit__`."""
    nones = [instruction.opname == "LOAD_CONST" and instruction.argval is None for instruction in following(frame)]
    return nones == [True] * 3


def following(frame: FrameType) -> Iterator[dis.Instruction]:
    later = (one for one in instructions(frame.f_code) if one.offset >= frame.f_lasti)
    return itertools.islice(later, 3)


@functools.cache
def instructions(code: CodeType) -> list[dis.Instruction]:
    return list(dis.get_instructions(code))


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


class Call(NamedTuple):
    """What is compared of the versions of one call's record, or of one event."""

    kind: str
    api: str | None = None
    outcome: str | None = None
    request: bool = False
    answer: bool = False
    tokens: int | None = None
    custom_id: str | None = None


def call_of(versions: list[CallRecord]) -> Call:
    versions = sorted(versions, key=order_of)
    last = versions[-1]
    return Call(
        "call", last.api, last.outcome,
        request=any(one.request.body is not NO_BODY for one in versions),
        answer=any(one.response is not None and one.response.body is not NO_BODY for one in versions),
        tokens=next((one.usage.total_tokens for one in reversed(versions) if one.usage is not None), None),
        custom_id=last.custom_id,
    )  # fmt: skip


class Done(NamedTuple):
    """What has come of something that was done."""

    spans: Counter[str]
    measured: Counter[str]
    records: Counter[Call]
    repeated: Counter[str]
    """Versions of records that were written more than once, by their kind."""
    left: int
    """How many only began."""

    def __add__(self, other: Any) -> Done:
        return Done(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def kinds(self) -> Counter[str]:
        return sum_of((one.kind, count) for one, count in self.records.items())


def sum_of(counts: Any) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for key, count in counts:
        total[key] += count
    return total


NOTHING = Done(Counter(), Counter(), Counter(), Counter(), 0)


class Seen:
    """What has come of what was done since last asked."""

    def __init__(self, store: Path) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader(preferred_temporality=DELTA)
        self.store = store
        self.read = 0

    def delivered(self) -> list[Record]:
        """What a store was given since last asked."""
        assert WIRING.flush(10), "not delivered"
        if not self.store.exists():
            return []
        with self.store.open("rb") as file:
            file.seek(self.read)
            lines = file.readlines()
            self.read = file.tell()
        return [decode(line) for line in lines]

    def take(self) -> Done:
        spans = Counter(span.name.split()[0] for span in self.exporter.get_finished_spans())
        self.exporter.clear()
        heard = self.delivered()
        calls: dict[str, list[CallRecord]] = {}
        others: dict[tuple[str, str], list[Any]] = {}
        for record in heard:
            if isinstance(record, CallRecord):
                calls.setdefault(record.call_id, []).append(record)
            else:
                others.setdefault(
                    (type(record).__name__, getattr(record, type(record).__struct_fields__[0])), []
                ).append(record)
        records = Counter(call_of(versions) for versions in calls.values())
        records += Counter(Call(other_kind(versions[-1])) for versions in others.values())
        left = sum(1 for versions in calls.values() if all(one.outcome == "started" for one in versions))
        left += sum(1 for versions in others.values() if is_open(versions[-1]))
        versions = Counter(
            (one.call_id, one.part, one.stage, one.outcome) for one in heard if isinstance(one, CallRecord)
        )
        return Done(spans, self.measured(), records, Counter(call=sum(versions.values()) - len(versions)), left)

    def measured(self) -> Counter[str]:
        found: Counter[str] = Counter()
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name in MEASURED:
                        found[metric.name] += sum(point.count for point in metric.data.data_points)
        return found


def other_kind(record: Any) -> str:
    return record.event_type if isinstance(record, EventRecord) else type(record).__name__


def is_open(record: Any) -> bool:
    return isinstance(record, SessionRecord | TimestepRecord) and record.end_ns is None


@contextmanager
def instrumented(directory: str) -> Iterator[Seen]:
    store = Path(directory, "calls.jsonl")
    seen = Seen(store)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen.exporter))
    meters = MeterProvider([seen.reader], shutdown_on_exit=False)
    loaded = load({"stores": [f"jsonl:///{store}"]}, environment={})
    handle = WIRING.install(loaded, Providers(tracer_provider=provider, meter_provider=meters), SDKS)
    try:
        yield seen
    finally:
        handle.uninstrument()


def settle(use: Use) -> None:
    gc.collect(1)
    use.settle()
    assert WIRING.hook_context.deferred_ends.drain(), "what is deferred is never done"


def drops() -> int:
    spool = WIRING.pipeline and WIRING.pipeline.recorder.spool
    return sum(spool.drops().values()) if spool else 0


class Watchdog:
    """Ends the process with the stacks of all threads where one point takes too long."""

    def __init__(self) -> None:
        self.point: object = None
        self.until = float("inf")
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while time.monotonic() < self.until:
            time.sleep(0.5)
        print(f"hangs: {self.point}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(3)

    def begin(self, point: object) -> None:
        self.point, self.until = point, time.monotonic() + TIME_LIMIT_S


class Usual(NamedTuple):
    """What comes of undisturbed work: what is interrupted, the same again, and the next call."""

    first: Done
    second: Done
    following: Done


class Run:
    """Points of one use."""

    def __init__(self, use: Use, following: Use, seen: Seen) -> None:
        self.use, self.following, self.seen = use, following, seen
        self.found: dict[str, Counter[str]] = {}
        self.faults: list[str] = []
        self.losses: list[str] = []
        self.dropped = drops()
        for _ in range(3):
            usual = self.undisturbed()
        assert usual.following.spans == Counter(chat=1), usual
        assert usual.following.kinds() == Counter(call=1), usual
        self.usual = usual

    def undisturbed(self) -> Usual:
        given = self.use.prepare()
        self.undisturbed_run(lambda: self.use.run(given))
        first = self.first()
        self.undisturbed_run(lambda: self.use.repeat(given))
        second = self.seen.take()
        self.undisturbed_run(self.following.run)
        return Usual(first, second, self.seen.take())

    def undisturbed_run(self, run: Callable[[], Came]) -> None:
        came = run()
        assert came[:2] == (None, False), came
        del came
        settle(self.use)

    def first(self) -> Done:
        """What the first run has made; nothing where it is to be compared together with the second."""
        return NOTHING if self.use.replays else self.seen.take()

    def points(self, wanted: Callable[[FrameType | None], bool]) -> list[Point]:
        given = self.use.prepare()
        points = points_of(lambda trace: self.use.run(given, trace), wanted)
        settle(self.use)
        self.seen.take()
        return points

    def fault(self, what: str, kind: str, point: Point | None, *details: object) -> None:
        self.found.setdefault(kind, Counter())[what] += 1
        if KINDS[kind].has_frame or what.startswith(NEVER):
            shown = "".join(f"\n      {detail}" for detail in details)
            self.faults.append(f"{what}: {self.use.name}, {kind}, {point}{shown}")

    def interrupt(self, point: Point, kind: str, *, again: bool = False) -> None:
        """`again`: it was swallowed here. One may come where C code discards it, but hardly twice."""
        use, reached = self.use, Reached()
        given, begun = use.prepare(), use.begun
        fail_open.forget_failures()
        UNRAISABLE.clear()
        # Collected here, a socket's file object of the provider's would discard what is raised as it is closed.
        gc.disable()
        came = use.run(given, armed(point, KINDS[kind], use, reached))
        gc.enable()
        # An `__exit__` that was not begun has ended nothing; what is around it, where there is something, does.
        unbegun = at_the_end_of_a_block(came.raised)
        is_doubtful = False
        if not reached.done:  # some lines are executed only where a thread of ours is idle
            self.found.setdefault(kind, Counter())["not reached"] += 1
        else:
            self.found.setdefault(kind, Counter())["points"] += 1
            is_doubtful = self.judge(came.raised, reached, kind, point, again=again)
        if came.attached:
            if not unbegun:
                self.fault("contexts left", kind, point)
            otel_context._RUNTIME_CONTEXT._current_context.set(otel_context.Context())  # type: ignore[attr-defined]
        del came
        settle(use)
        first = self.first()
        self.compare(first, kind, point, given, called=use.begun > begun, unbegun=unbegun)
        if is_doubtful:
            self.interrupt(point, kind, again=True)

    def judge(self, raised: BaseException | None, reached: Reached, kind: str, point: Point, *, again: bool) -> bool:
        """Whether the waiting code has received the interrupt; True where that is not known before it is repeated."""
        found, raises = self.found[kind], KINDS[kind].raises
        if UNRAISABLE:
            found["lost by the interpreter"] += 1
        elif at_the_end_of_a_block(raised):
            found["at the first instruction of a block's end"] += 1
        elif reached.elsewhere:
            found["in a task that nobody awaits"] += 1
        elif raised is None and (not point.is_ours or issubclass(raises, self.use.swallows)):
            found["swallowed by the SDK"] += 1
        elif raised is None and kind == THROWN and not again:
            found["swallowed once"] += 1
            return True
        elif raised is None:
            self.fault("swallowed", kind, point)
        elif not is_in_chain(raised, raises):
            self.fault(f"replaced by {raised!r}", kind, point)
        return False

    def compare(self, first: Done, kind: str, point: Point, given: Any, *, called: bool, unbegun: bool) -> None:
        """The interrupted run; the same again; and the next call, which is recorded as ever."""
        usual, use = self.usual, self.use
        seconds = [self.done_or_fault(lambda: use.repeat(given), "repeated", kind, point)]
        if (second := seconds[0]) is None:
            return
        both, expected = first + second, usual.first + usual.second
        for name in ("spans", "measured", "repeated"):
            if more := getattr(both, name) - getattr(expected, name):
                self.fault(f"doubled {name}", kind, point, more)
        if both.kinds() - expected.kinds():
            self.fault("doubled records", kind, point, both.kinds() - expected.kinds())
        self.equal(second, usual.second, kind, point)
        if not use.replays:
            self.lost(first, kind, point, called=called, unbegun=unbegun)
        following = self.done_or_fault(self.following.run, "next", kind, point)
        if following is not None and following != usual.following:
            self.fault("next runs not recorded", kind, point, following)
        if (dropped := drops()) > self.dropped:
            self.fault("records dropped", kind, point, dropped - self.dropped)
            self.dropped = dropped

    def lost(self, first: Done, kind: str, point: Point, *, called: bool, unbegun: bool) -> None:
        """Exactly one span and one record; where an instruction of ours was met, one of them may be lost."""
        if not called or not self.use.paired:
            return
        calls = sum(count for one, count in first.records.items() if one.kind == "call")
        spans = sum(count for name, count in first.spans.items() if name in ("chat", "generate_content"))
        if not (calls and spans) or (first.left and not unbegun):
            which = f"{calls} records, {spans} spans, {first.left} left"
            if point.is_ours:
                self.found[kind]["lost at an instruction of callspan"] += 1
                self.losses.append(f"{which}: {self.use.name}, {kind}, {point}")
            else:
                self.fault("lost", kind, point, which)

    def equal(self, done: Done, expected: Done, kind: str, point: Point) -> None:
        mine, theirs = self.compared(done), self.compared(expected)
        if mine != theirs:
            self.fault("repeated differs", kind, point, mine - theirs, theirs - mine)
        # A request that was interrupted before it was sent has no span.
        if done.spans != expected.spans and not (done.spans - expected.spans or self.use.creates):
            self.fault("repeated lacks spans", kind, point, expected.spans - done.spans)

    def compared(self, done: Done) -> Counter[Call]:
        if not self.use.loses_content:
            return done.records
        return sum_of((one._replace(request=False, answer=False), count) for one, count in done.records.items())

    def done_or_fault(self, run: Callable[[], Came], what: str, kind: str, point: Point) -> Done | None:
        came = run()
        raised, attached = came.raised, came.attached
        del came
        settle(self.use)
        done = self.seen.take()
        if raised is None and not attached:
            return done
        self.fault(f"{what} runs that raise", kind, point, repr(raised), attached)
        return None


def chosen(points: list[Point], every: int, chance: random.Random) -> list[Point]:
    return points[chance.randrange(every) :: every] if points else []


def measure(options: argparse.Namespace, provider: ScriptedProvider) -> Iterator[Run]:
    chance, watchdog = random.Random(options.seed), Watchdog()
    kinds = itertools.cycle(options.kinds)
    for name in options.uses:
        watchdog.begin(name)
        use, following = use_named(name, provider), use_named("openai sync plain", provider)
        with tempfile.TemporaryDirectory() as directory, instrumented(directory) as seen:
            run = Run(use, following, seen)
            points = chosen(run.points(is_ours), options.every, chance)
            if options.others:
                points += chosen(run.points(is_theirs), options.every * OTHERS, chance)
            gc.freeze()
            for point in points:
                kind = next(kinds)
                if kind == AT_LINE and point.leaves_block:
                    kind = "KeyboardInterrupt"
                watchdog.begin(f"{name}, {kind}, {point}")
                run.interrupt(point, kind)
            yield run
        use.close()
        following.close()


def main() -> None:
    """Print what was found as JSON; exit code 1 if there are faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=13)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--uses", nargs="*", default=USES)
    parser.add_argument("--others", type=int, default=1, help="0: no lines of the SDKs")
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
    results: dict[str, dict[str, Counter[str]]] = {}
    faults: list[str] = []
    with ScriptedProvider() as provider:
        provider.reply(text="I am well.", repeat=True)
        for run in measure(options, provider):
            results[run.use.name] = run.found
            faults += run.faults
            if options.verbose:
                total = sum(run.found.values(), Counter())
                print(run.use.name, dict(total), *run.faults, *run.losses, sep="\n  ", file=sys.stderr, flush=True)
    json.dump({"results": results, "faults": faults}, sys.stdout, indent=1)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
