"""Interrupts at executed lines of callspan: the application gets them, each call has one record, the next call works.

A sample; every line at full scale. A signal is marked as arrived, as the C handler of CPython does it, and the
interpreter runs its Python handler where it next looks for signals.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import sys
import threading
from _thread import interrupt_main
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from tests.support.scale import scaled
from tests.support.uses import BY_HAND, GENERATED, HOOKED, HTTP, Clients, Use, plain, recorded
from tests.support.waiting import HANG_S

import callspan
from callspan.records import CallRecord, EventRecord, SessionRecord, TimestepRecord
from callspan.testing import Capture, ScriptedProvider, capture

OURS: Final = str(Path(callspan.__file__).parent)
TESTING: Final = str(Path(OURS, "testing"))
POINTS: Final = scaled(24, 1_000_000)
"""How many points of each use are interrupted, at most."""
REPETITIONS: Final = 3
"""How often a line is one of them, at most."""


class TimeLimitError(Exception):
    """What a soft time limit raises, as that of Celery."""


class Timeout(BaseException):
    """What a time limit of gevent raises: no `Exception`."""


KINDS: Final[dict[int, type[BaseException]]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGUSR1: SystemExit,
    signal.SIGUSR2: TimeLimitError,
    signal.SIGALRM: Timeout,
}


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KINDS[number]


class Arrived:
    """Marks a signal as arrived without a step in Python, after which its handler would run too early."""

    __getitem__ = interrupt_main


ARRIVED: Final = Arrived()


class Lines:
    """Counts the lines of callspan that the calling thread executes; at one of them a signal arrives."""

    def __init__(self, at: int | None = None, number: int = signal.SIGINT, within: str | None = None) -> None:
        """`within`: only those of functions of this name."""
        self.count = 0
        self.place = ""
        """Where the signal arrived."""
        self.at, self._number, self._within = at, number, within
        self._times = Counter[object]()

    def __enter__(self) -> None:
        sys.settrace(self._around)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _around(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        return self._inside if file.startswith(OURS) and not file.startswith(TESTING) else None

    def _inside(self, frame: FrameType, event: str, argument: object) -> Any:
        # Before the first instruction of `__exit__` nothing written in Python can guard a block against an interrupt.
        name = frame.f_code.co_name
        if event == "line" and name != "__exit__" and self._within in (None, name) and self._is_new(frame):
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                self.place = f"{file_of(frame)}:{frame.f_lineno}"
                ARRIVED[self._number]
                return None
        return self._inside

    def _is_new(self, frame: FrameType) -> bool:
        """Whether a line runs for one of the first times: most lines of a use are those of a few loops."""
        place = frame.f_code, frame.f_lineno
        self._times[place] += 1
        return self._times[place] <= REPETITIONS


def file_of(frame: FrameType) -> str:
    return frame.f_code.co_filename.removeprefix(OURS)


@contextmanager
def handlers(handler: Any = interrupt) -> Iterator[None]:
    """Have each signal raise its exception."""
    before = {number: signal.signal(number, handler) for number in KINDS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@pytest.fixture
def clients(provider: ScriptedProvider) -> Iterator[Clients]:
    with closing(Clients(provider)) as made:
        gc.freeze()  # each capture collects garbage, of which the SDKs' modules have none
        yield made


def ended(seen: Capture) -> list[CallRecord]:
    """The records of calls that have ended, one for each id."""
    calls = [one for one in seen.everything if isinstance(one, CallRecord) and one.part == "ended"]
    return list({one.call_id: one for one in calls}.values())


def points_of(use: Use, clients: Clients) -> list[int]:
    """Sample the lines of callspan that the use executes, by their number."""
    with capture():
        use(clients)
        lines = Lines()
        with lines:
            use(clients)
    return list(range(1, lines.count + 1, max(1, lines.count // POINTS)))


def interrupted(use: Use, clients: Clients, lines: Lines) -> type[BaseException] | None:
    """Use them, interrupted at a line; return what is raised, not as an exception, which keeps the response alive."""
    try:
        with handlers(), lines:
            use(clients)
    except BaseException as error:  # noqa: BLE001 - the interrupt that is looked for
        # These SDKs wrap any `Exception` that is raised while they send, also without callspan.
        is_wrapper = type(error).__name__ in ("APIConnectionError", "HTTPClientError")
        return type((is_wrapper and error.__context__) or error)
    return None


class Swallowed(logging.Handler):
    """Collects what asyncio and aiohttp log instead of raising it, also without callspan."""

    def __init__(self, exceptions: list[object]) -> None:
        super().__init__()
        self._exceptions = exceptions

    def emit(self, record: logging.LogRecord) -> None:
        """Add the exception of a log entry."""
        self._exceptions.append(record.exc_info and record.exc_info[1])


@contextmanager
def swallowed(exceptions: list[object]) -> Iterator[None]:
    """Add what event loops swallow to `exceptions`."""
    handler, loggers = Swallowed(exceptions), [logging.getLogger(name) for name in ("asyncio", "aiohttp.internal")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def faults_of(use: Use, clients: Clients, lines: Lines, kind: object) -> Iterator[str]:
    """Yield what is wrong about a use that was interrupted, and about the call after it."""
    before, lost, at = len(clients.provider.requests), list[object](), lines.at
    with pytest.MonkeyPatch.context() as patch, capture() as seen:
        patch.setattr(sys, "unraisablehook", lambda given: lost.append(given.exc_value))
        with swallowed(lost):
            raised = interrupted(use, clients, lines)
        if "async" in use.__name__:
            clients.settle()
        gc.collect()  # an exception that a loop of tools has kept keeps the call that it interrupted
        calls, sent = ended(seen), len(clients.provider.requests) - before
        # A use may execute fewer lines than the one that counted them. What is raised in a finalizer or a callback
        # of an event loop reaches nobody.
        if lines.count == at and raised is not kind and not lost:
            yield f"the application got {raised}"
        if lines.count < 0.9 * at:
            yield f"only {lines.count} lines ran"
        least = 1 if use is recorded and raised is None else sent
        if not least <= len(calls) <= 1:
            yield f"{len(calls)} records of {least} calls"
        ids = [span.context.span_id for span in seen.spans if span.kind.name == "CLIENT" and span.context]
        if len(ids) != len(set(ids)) or len(ids) > 1:
            yield f"{len(ids)} spans of calls"
        yield from unpaired(seen)
        plain(clients)
        yield from (f"the next call: {what}" for what in following(ended(seen)[len(calls) :]))


def unpaired(seen: Capture) -> Iterator[str]:
    """Yield what is wrong about the sessions, steps and tools: each has an end, and one span, or was not begun."""
    scopes_ended = dict[str, bool]()
    for record in seen.everything:
        match record:
            case SessionRecord(session_id=identity) | TimestepRecord(timestep_id=identity):
                scopes_ended[identity] = scopes_ended.get(identity, False) or record.end_ns is not None
            case EventRecord(event_type="tool" | "agent", event_id=identity):
                scopes_ended[identity] = True
    yield from (f"{identity} has no end" for identity, has_ended in scopes_ended.items() if not has_ended)
    spans = [span.name for span in seen.spans if span.kind.name == "INTERNAL"]
    if len(spans) != len(scopes_ended):
        yield f"spans {spans} of {len(scopes_ended)} scopes"


def following(calls: list[CallRecord]) -> Iterator[str]:
    """Yield what is wrong about the call that follows."""
    if len(calls) != 1:
        yield f"{len(calls)} records"
    for call in calls:
        if call.outcome != "success" or call.parent_span_id is not None or call.place.session_id is not None:
            yield f"{call.outcome}, below {call.parent_span_id}, in {call.place}"


@pytest.mark.timeout(scaled(2 * HANG_S, 0))
@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")  # aiohttp, of google-genai
@pytest.mark.parametrize("use", [*GENERATED, *BY_HAND, *HTTP, *HOOKED], ids=lambda use: use.__name__)
def test_interrupt_inside_callspan_keeps_the_call(use: Use, clients: Clients) -> None:
    kinds, faults = list(KINDS), []
    for nth, at in enumerate(points_of(use, clients)):
        number = kinds[nth % len(kinds)]
        kind, lines = KINDS[number], Lines(at, number)
        # A context of its own: what stays attached is the fault of one line, not of those after it.
        wrong = copy_context().run(list, faults_of(use, clients, lines, kind))
        faults += [f"line {at}, {lines.place}, {kind.__name__}: {what}" for what in wrong]
    assert not faults, "\n".join(faults)


class Limit:
    """Raises as a signal's handler, by a method or by being called."""

    def method(self, number: int, frame: FrameType | None) -> None:
        raise TimeLimitError

    __call__ = method


HANDLERS: Final[dict[str, Any]] = {
    "function": interrupt, "method": Limit().method, "object": Limit(), "partial": partial(interrupt),
}  # fmt: skip
PASSED: Final = {
    **{kind.__name__: kind for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)},
    **dict.fromkeys(HANDLERS, TimeLimitError),
}


@pytest.mark.parametrize("how", PASSED)
def test_interrupted_redactor_loses_only_content(how: str, clients: Clients) -> None:
    """And one of a callback costs nothing."""
    main, without_words = threading.get_ident(), callspan.redact_texts(lambda text: text.replace("How", "-"))

    def raising(record: Any) -> Any:
        if record.part == "ended" and threading.get_ident() == main:
            if how in HANDLERS:
                signal.raise_signal(signal.SIGUSR2)
            raise PASSED[how]
        return without_words(record)

    with handlers(HANDLERS.get(how, interrupt)):
        with capture(redact=raising) as seen:
            # Nobody can tell who raised an interrupt; what else a redactor raises is its own.
            goes_on = how in HANDLERS or PASSED[how] is KeyboardInterrupt
            with pytest.raises(PASSED[how]) if goes_on else nullcontext():
                plain(clients)
            (call,) = ended(seen)
        with capture() as later:
            remove = callspan.add_callback("after_record", raising)
            with pytest.raises(PASSED[how]):
                plain(clients)
            remove()
            assert [one.outcome for one in ended(later)] == ["success"]
    assert call.usage is not None or call.outcome == "success"
    assert b"How" not in bytes(call.request.body)


def test_interrupted_batch_line_is_recorded_on_the_next_read(provider: ScriptedProvider, clients: Clients) -> None:
    names = ["a", "b", "c"]
    body = {"object": "chat.completion", "model": "gpt-5", "choices": []}
    lines = [{"custom_id": name, "response": {"status_code": 200, "body": body}, "error": None} for name in names]
    provider.reply(raw="".join(f"{json.dumps(one)}\n" for one in lines).encode(), on="/content", repeat=True)
    lost = []
    for at in range(1, 9):
        with capture() as seen:
            with handlers(), suppress(KeyboardInterrupt), Lines(at, within="write"):
                clients.openai.files.content(f"file-{at}")
            clients.openai.files.content(f"file-{at}")
            lost += [(at, name) for name in names if name not in {call.custom_id for call in seen.records}]
    assert lost == []
