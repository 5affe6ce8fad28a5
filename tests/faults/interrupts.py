"""Raises an interrupt at the executed lines of callspan's code, one at a time, and looks at what becomes of the call.

    python interrupts.py [--share 0.05] [--seed 1] [--kinds ...] [--uses ...]      prints the results as JSON

For each way to call an SDK the lines of ours that are executed on the calling thread are found by a trace function.
Then the call is made once for each of them and each kind of interrupt: at the line a signal is marked as arrived, as
the C handler of CPython does it, and the interpreter runs the Python handler where it next looks for signals. So only
places are hit that a signal can hit.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import gc
import json
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

import anthropic
import openai
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import fail_open
from callspan.intercept.patching import SDKS
from callspan.record.call import CallRecord
from callspan.record.events import Record
from callspan.settings_loader import load
from callspan.testing import ScriptedProvider
from callspan.wiring import WIRING
from callspan.wiring.parts import Parts

OURS = str(Path(callspan.__file__).parent)
NOT_OURS = tuple(str(Path(OURS, name)) for name in ("testing", "cli"))
CONTEXT = str(Path(otel_context.__file__).parent)
AFTERWARDS = 50
UNRAISABLE: list[object] = []
"""Exceptions that the interpreter could give nobody: raised in a finalizer or a weak reference's callback."""
MESSAGES: Any = [{"role": "user", "content": "hi"}]


class TimeIsUpError(TimeoutError):
    """What a time limit raises."""


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


KINDS = {
    "KeyboardInterrupt": Kind(Signalled(), signal.SIGINT, KeyboardInterrupt),
    "SystemExit": Kind(Signalled(), signal.SIGUSR1, SystemExit),
    "exception of a signal handler": Kind(Signalled(), signal.SIGUSR2, TimeIsUpError),
    "KeyboardInterrupt by SetAsyncExc": Kind(Thrown(), KeyboardInterrupt, KeyboardInterrupt),
    "exception by SetAsyncExc": Kind(Thrown(), TimeIsUpError, TimeIsUpError),
}


class Point(NamedTuple):
    """A line of ours, and where it is."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)}:{self.line} {self.function}"


def is_traced(file: str) -> bool:
    return (file.startswith(OURS) and not file.startswith(NOT_OURS)) or file.startswith(CONTEXT)


def tracer(seen: Callable[[FrameType], Any]) -> Callable[..., Any]:
    def inside(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            seen(frame)
        return inside

    def around(frame: FrameType, event: str, argument: object) -> Any:
        return inside if is_traced(frame.f_code.co_filename) else None

    return around


def points_of(run: Callable[[], object]) -> list[Point]:
    """The lines of ours that are executed, in the order of their first execution."""
    found: dict[Point, None] = {}

    def note(frame: FrameType) -> None:
        found.setdefault(Point(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))

    sys.settrace(tracer(note))
    try:
        run()
    finally:
        sys.settrace(None)
    return list(found)


def armed(point: Point, kind: Kind, reached: list[Point]) -> Callable[..., Any]:
    """A trace function that interrupts at the point, once, and notes that it was reached."""
    trigger, of, file, line = kind.trigger, kind.of, point.file, point.line

    def inside(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and frame.f_lineno == line and frame.f_code.co_filename == file:
            sys.settrace(None)
            reached.append(point)
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


class Entered:
    """Whether the SDK's own `request` was entered: a method it calls first."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, client: Any) -> Any:
        original = client._prepare_options

        def prepare(options: Any) -> Any:
            self.count += 1
            return original(options)

        client._prepare_options = prepare
        return client


@dataclass
class Seen:
    """What has come of the calls."""

    exporter: InMemorySpanExporter
    stored: bool
    records: list[CallRecord] = field(default_factory=list)

    def hear(self, record: Record) -> None:
        if isinstance(record, CallRecord) and record.outcome != "started":
            self.records.append(record)

    def counts(self) -> tuple[int, int]:
        spans = len(self.exporter.get_finished_spans())
        # By id: what is written once more after an interrupt is one record in every store.
        return spans, len({record.call_id for record in self.records}) if self.stored else spans


class Use:
    """One way to use one SDK."""

    def __init__(self, name: str, provider: ScriptedProvider) -> None:
        self.name = name
        self.sdk, self.manner, self.how = name.split()
        self.entered = Entered()
        self.loop = asyncio.new_event_loop() if self.manner == "async" else None
        url = provider.openai_url if self.sdk == "openai" else provider.anthropic_url
        kinds: Any = {
            ("openai", "sync"): openai.OpenAI,
            ("openai", "async"): openai.AsyncOpenAI,
            ("anthropic", "sync"): anthropic.Anthropic,
            ("anthropic", "async"): anthropic.AsyncAnthropic,
        }
        self.client = self.entered.watch(
            kinds[self.sdk, self.manner](api_key="k", base_url=url, max_retries=0, timeout=10)
        )

    def request(self) -> Any:
        stream = self.how == "stream"
        if self.sdk == "openai":
            return self.client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=stream)
        return self.client.messages.create(model="claude", max_tokens=9, messages=MESSAGES, stream=stream)

    def call(self, trace: Callable[..., Any] | None = None) -> tuple[BaseException | None, bool]:
        """Make a call; return what it raised, and whether an OpenTelemetry context stayed attached."""
        if self.loop is None:
            return self._call(trace)
        task = self.loop.create_task(self._call_async(trace))
        try:
            return self.loop.run_until_complete(task)
        except BaseException as error:  # noqa: BLE001 - raised in the event loop itself
            sys.settrace(None)
            task.cancel()
            try:
                return self.loop.run_until_complete(task)
            except BaseException:  # noqa: BLE001
                return error, False

    def _call(self, trace: Callable[..., Any] | None) -> tuple[BaseException | None, bool]:
        before, raised = otel_context.get_current(), None
        try:
            if trace is not None:
                sys.settrace(trace)
            result = self.request()
            if self.how == "stream":
                for _ in result:
                    pass
            sys.settrace(None)
        except BaseException as error:  # noqa: BLE001
            sys.settrace(None)
            raised = error
        return raised, otel_context.get_current() is not before

    async def _call_async(self, trace: Callable[..., Any] | None) -> tuple[BaseException | None, bool]:
        before, raised = otel_context.get_current(), None
        try:
            if trace is not None:
                sys.settrace(trace)
            result = await self.request()
            if self.how == "stream":
                async for _ in result:
                    pass
            sys.settrace(None)
        except BaseException as error:  # noqa: BLE001
            sys.settrace(None)
            raised = error
        return raised, otel_context.get_current() is not before

    def close(self) -> None:
        if self.loop is None:
            self.client.close()
        else:
            self.loop.run_until_complete(self.client.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@contextmanager
def instrumented(directory: str, *, stored: bool) -> Iterator[Seen]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen = Seen(exporter, stored)
    loaded = load({"stores": [f"sqlite:///{directory}/calls.db"] if stored else []}, environment={})
    parts = Parts(tracer_provider=provider, listeners=(seen.hear,) if stored else ())
    handle = WIRING.install(loaded, parts, SDKS)
    try:
        yield seen
    finally:
        handle.uninstrument()


def settle() -> None:
    gc.collect(1)
    WIRING.engine.late_ends.drain()


class Run:
    """All points of one use under one kind of interrupt."""

    def __init__(self, use: Use, seen: Seen, name: str) -> None:
        self.use, self.seen, self.kind, self.name = use, seen, KINDS[name], name
        self.found: Counter[str] = Counter()
        self.faults: list[str] = []

    def fault(self, what: str, point: Point | None) -> None:
        self.found[what] += 1
        if len(self.faults) < 40:
            stored = "stored" if self.seen.stored else "not stored"
            self.faults.append(f"{what}: {self.use.name}, {stored}, {self.name}, {point}")

    def interrupt(self, point: Point) -> None:
        use, seen = self.use, self.seen
        entered, (spans, records) = use.entered.count, seen.counts()
        fail_open.forget_failures()
        reached: list[Point] = []
        UNRAISABLE.clear()
        raised, attached = use.call(armed(point, self.kind, reached))
        self.found["points"] += len(reached)
        if not reached:  # some lines are executed only where a thread of ours is idle
            return
        if raised is None and not UNRAISABLE:
            self.fault("swallowed", point)
        elif raised is None:
            self.found["lost by the interpreter"] += 1
        elif not is_in_chain(raised, self.kind.raises):
            self.fault(f"replaced by {raised!r}", point)
        if attached:
            self.fault("contexts left", point)
            otel_context._RUNTIME_CONTEXT._current_context.set(otel_context.Context())  # type: ignore[attr-defined]
        del raised
        settle()
        now_spans, now_records = seen.counts()
        more_spans, more_records = now_spans - spans, now_records - records
        if use.entered.count > entered and not (more_spans and more_records):
            self.fault(f"calls without {'a span' if not more_spans else 'a record'}", point)
        if more_spans != more_records:
            self.fault("spans and records differ", point)
        if more_spans > 1 or more_records > 1:
            self.fault("calls with two spans or records", point)
        self.well(point)

    def well(self, point: Point | None) -> None:
        """The next call is recorded as ever."""
        spans, records = self.seen.counts()
        raised, attached = self.use.call()
        settle()
        if raised is not None or attached:
            self.fault(f"next calls that raise {raised!r}", point)
        elif self.seen.counts() != (spans + 1, records + 1):
            self.fault("next calls not recorded", point)

    def finish(self, directory: str) -> None:
        """Fifty calls more, and all that were heard of are stored."""
        for _ in range(AFTERWARDS):
            self.well(None)
        if not self.seen.stored:
            return
        if not WIRING.flush(30):
            self.fault("flushes that time out", None)
        spool = WIRING.pipeline and WIRING.pipeline.recorder.spool
        if spool and any(spool.drops().values()):
            self.fault(f"drops: {spool.drops()}", None)
        with sqlite3.connect(f"{directory}/calls.db") as connection:
            stored = {row[0] for row in connection.execute("SELECT call_id FROM calls WHERE outcome != 'started'")}
        connection.close()
        missing = {record.call_id for record in self.seen.records} - stored
        if missing:
            self.found["records not stored"] += len(missing)


def chosen(points: list[Point], share: float, chance: random.Random) -> list[Point]:
    return points if share >= 1 else chance.sample(points, max(1, round(share * len(points))))


def every_use(provider: ScriptedProvider, names: list[str]) -> Iterator[Use]:
    for name in names:
        use = Use(name, provider)
        try:
            yield use
        finally:
            use.close()


USES = [
    f"{sdk} {manner} {how}"
    for sdk in ("openai", "anthropic")
    for manner in ("sync", "async")
    for how in ("plain", "stream")
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--uses", nargs="*", default=USES)
    parser.add_argument("--stored", type=int, nargs="*", default=[0, 1])
    options = parser.parse_args()
    chance = random.Random(options.seed)
    sys.unraisablehook = lambda lost: UNRAISABLE.append(lost.exc_type)
    # A shell that runs this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, leave)
    signal.signal(signal.SIGUSR2, time_is_up)
    results: dict[str, Counter[str]] = {name: Counter() for name in options.kinds}
    faults: list[str] = []
    with ScriptedProvider() as provider:
        provider.reply(text="I am well.", repeat=True)
        for use in every_use(provider, options.uses):
            for stored in map(bool, options.stored):
                with tempfile.TemporaryDirectory() as directory, instrumented(directory, stored=stored) as seen:
                    for _ in range(3):
                        assert use.call() == (None, False)
                    points = points_of(use.call)
                    gc.freeze()
                    for name in options.kinds:
                        run = Run(use, seen, name)
                        for point in chosen(points, options.share, chance):
                            run.interrupt(point)
                        run.finish(directory)
                        results[name] += run.found
                        faults += run.faults
    json.dump({"results": results, "faults": faults}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
