"""Makes calls in a signal handler, at the executed lines of callspan and of OpenTelemetry, one at a time.

    python calls_in_signals.py [--share 0.05] [--seed 1] [--scenes ...]     prints the results as JSON

For each scene the lines that are executed on the main thread are counted by a trace function. Then the scene is run
once for each of them: at that line a signal is raised, whose handler makes a call of its own. One signal for each run:
a handler that is run at every so many lines makes, above some rate, more calls than the interrupted code can finish.
A call that waits for a lock which its own thread holds never ends: an alarm gets it out, and the point is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import anthropic
import openai
from opentelemetry import context as otel_context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.fail_open import failures
from callspan.testing import ScriptedProvider

OURS = str(Path(callspan.__file__).parent)
NOT_OURS = tuple(str(Path(OURS, name)) for name in ("testing", "cli"))
TRACED = (OURS, str(Path(otel_context.__file__).parents[1]))
EVENTS = threading.__file__
HANGS_AFTER_S = 10.0
MESSAGES: Any = [{"role": "user", "content": "hi"}]


class HangsError(BaseException):
    """Gets a call out that waits for itself."""


class Calls:
    """All ways to make a call that a scene or a handler uses, and how many were made."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self.client = openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0)
        self.other = anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0)
        self.async_client = openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0)
        self.made = 0
        self.session: Any = None

    def next(self) -> str:
        """A name for one call, which is its model."""
        self.made += 1
        return f"m{self.made}"

    def plain(self) -> None:
        self.client.chat.completions.create(model=self.next(), messages=MESSAGES)

    def stream(self) -> None:
        for _ in self.client.chat.completions.create(model=self.next(), messages=MESSAGES, stream=True):
            pass

    def left(self) -> None:
        """A stream that is dropped: its end is noted by a finalizer."""
        next(iter(self.client.chat.completions.create(model=self.next(), messages=MESSAGES, stream=True)))

    def messages(self) -> None:
        self.other.messages.create(model=self.next(), max_tokens=9, messages=MESSAGES)

    def step(self) -> None:
        """Also events of the one session that everybody shares."""
        with self.session.timestep() as step:
            self.session.observation("o")
            with step.tool("t") as tool:
                tool.result = 1
            step.environment("o", reward=1.0, terminated=False)
            self.plain()

    def by_hand(self) -> None:
        with callspan.record_call(provider="p", model=(model := self.next())) as call:
            call.request({"model": model, "messages": MESSAGES})
            call.response({"choices": []})

    async def async_plain(self) -> None:
        await self.async_client.chat.completions.create(model=self.next(), messages=MESSAGES)

    async def async_stream(self) -> None:
        async for _ in await self.async_client.chat.completions.create(
            model=self.next(), messages=MESSAGES, stream=True
        ):
            pass


SCENES = ("plain", "stream", "left", "messages", "step", "by_hand", "async_plain", "async_stream")
IN_HANDLERS = ("plain", "step", "stream", "by_hand")


def is_traced(file: str) -> bool:
    return (file.startswith(TRACED) and not file.startswith(NOT_OURS)) or file == EVENTS


class Lines:
    """Counts the lines that are executed on this thread, and raises a signal at one of them."""

    def __init__(self, at: int = 0) -> None:
        self.count = 0
        self.where = ""
        self._at = at

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._inside if is_traced(frame.f_code.co_filename) else None

    def _inside(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self._at:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
                signal.raise_signal(signal.SIGUSR1)
                return None
        return self._inside


class Run:
    """One scene, interrupted at its lines."""

    def __init__(self, calls: Calls, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.found: Counter[str] = Counter()
        self.faults: list[str] = []
        self._calls = calls
        self._name = name
        self._scene: Callable[[], Any] = getattr(calls, name)
        self._loop = loop
        self._tasks: list[Awaitable[None]] = []

    def scene(self, trace: Lines) -> None:
        if asyncio.iscoroutinefunction(self._scene):
            self._loop.run_until_complete(self._in_loop(trace))
            return
        sys.settrace(trace)
        try:
            self._scene()
        finally:
            sys.settrace(None)

    async def _in_loop(self, trace: Lines) -> None:
        sys.settrace(trace)
        try:
            await self._scene()
        finally:
            sys.settrace(None)
        await self.finish()

    async def finish(self) -> None:
        """Let the loop come round to what the last signal has asked for, and wait for it."""
        await asyncio.sleep(0.001)
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    def lines(self) -> int:
        """How many lines the scene takes, once everything is warm."""
        counts = []
        for _ in range(3):
            trace = Lines()
            self.scene(trace)
            counts.append(trace.count)
        return counts[-1]

    def interrupt(self, at: int, kind: str) -> None:
        before, trace = self._calls.made, Lines(at)
        if kind == "task":
            self._loop.add_signal_handler(signal.SIGUSR1, self._start_task)
        else:
            signal.signal(signal.SIGUSR1, partial(_handle, getattr(self._calls, kind)))
        signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_S)
        try:
            self.scene(trace)
        except HangsError as hangs:
            # The longest wait that was cut short is what hung: the frames below it are the interrupted ones.
            self._fault("hangs", trace, kind, "".join(traceback.format_tb(hangs.__traceback__)[-2:]))
        except Exception as error:  # noqa: BLE001
            self._fault(f"raises {error!r}", trace, kind, "")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.found["points"] += self._calls.made - before > 1

    def _start_task(self) -> None:
        self._tasks.append(self._loop.create_task(self._calls.async_plain()))

    def _fault(self, what: str, trace: Lines, kind: str, waits: str) -> None:
        self.found[what] += 1
        self.faults.append(f"{what}: {kind} within {self._name} at {trace.where}\n{waits}")


def _handle(call: Callable[[], None], number: int, frame: object) -> None:
    call()


def _hangs(number: int, frame: object) -> None:
    raise HangsError


class Telemetry:
    """Providers of the SDK as applications set them up, with batches of one: each span wakes their threads."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracers = TracerProvider(shutdown_on_exit=False, meter_provider=self.meters)
        self.tracers.add_span_processor(BatchSpanProcessor(self.spans, max_export_batch_size=1))
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self.logs.add_log_record_processor(
            BatchLogRecordProcessor(InMemoryLogRecordExporter(), max_export_batch_size=1)
        )

    def models_of_spans(self) -> list[str]:
        self.tracers.force_flush()
        names = [span.name for span in self.spans.get_finished_spans()]
        return [name.removeprefix("chat ") for name in names if name.startswith("chat ")]

    def calls_measured(self) -> int:
        data = self.reader.get_metrics_data()
        return sum(
            point.count
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "gen_ai.client.operation.duration"
            for point in metric.data.data_points
        )


@contextmanager
def instrumented(directory: str) -> Iterator[tuple[Telemetry, Any, str]]:
    store, telemetry = f"sqlite:///{directory}/calls.db", Telemetry()
    handle = callspan.instrument(
        stores=store, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters,
        logger_provider=telemetry.logs, log_events=True,
    )  # fmt: skip
    try:
        yield telemetry, handle, store
    finally:
        handle.uninstrument()
        telemetry.tracers.shutdown()
        telemetry.logs.shutdown()


def kinds_in(scene: str) -> tuple[str, ...]:
    return (*IN_HANDLERS, "task") if scene.startswith("async") else IN_HANDLERS


def chosen(lines: int, share: float, chance: random.Random) -> list[int]:
    every = range(1, lines + 1)
    return list(every) if share >= 1 else sorted(chance.sample(every, max(1, round(share * lines))))


def counted(calls: Calls, telemetry: Telemetry, store: str) -> tuple[Counter[str], list[str]]:
    """Calls that do not have exactly one span, one record and one measurement."""
    with closing(callspan.open_store(store)) as reader:
        stored = [str(call.request.model) for call in reader.calls() if call.outcome in {"success", "cancelled"}]
    found, faults = Counter({"calls": calls.made}), []
    names = [f"m{number + 1}" for number in range(calls.made)]
    for what, models in (("span", telemetry.models_of_spans()), ("record", stored)):
        counts = Counter(models)
        wrong = [name for name in names if counts[name] != 1]
        found[f"calls with other than one {what}"] = len(wrong)
        faults += [f"{name} has {counts[name]} {what}s" for name in wrong[:20]]
    found["calls not measured once"] = abs(calls.made - telemetry.calls_measured())
    return found, faults


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--scenes", nargs="*", default=SCENES)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    signal.signal(signal.SIGALRM, _hangs)
    found: Counter[str] = Counter()
    faults: list[str] = []
    with ScriptedProvider() as provider, tempfile.TemporaryDirectory() as directory:
        provider.reply(text="Fine, thanks.", repeat=True)
        calls, loop = Calls(provider), asyncio.new_event_loop()
        with instrumented(directory) as (telemetry, handle, store):
            with callspan.session("s") as calls.session:
                for name in options.scenes:
                    run = Run(calls, name, loop)
                    for at in chosen(run.lines(), options.share, chance):
                        kinds = kinds_in(name)
                        run.interrupt(at, kinds[at % len(kinds)])
                    found += run.found
                    faults += run.faults
            # A stream that was left is closed by the loop.
            loop.run_until_complete(loop.shutdown_asyncgens())
            gc.collect()
            found["flushes that time out"] += not handle.force_flush()
            wrong, which = counted(calls, telemetry, store)
        loop.close()
    found.update(wrong)
    found["steps that failed"] = sum(failures().values())
    results = {name: count for name, count in found.items() if count}
    json.dump({"results": results, "faults": faults + which, "failures": failures()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
