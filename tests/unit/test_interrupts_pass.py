"""Exceptions that a signal handler or debugger of the application raises inside callspan pass unchanged."""

from __future__ import annotations

import ast
import inspect
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import callspan
from callspan.fail_open import fail_open, failures, forget_failures, log, ours, report, reported, value_of

NUMBER = signal.SIGUSR1


class TimeIsUpError(Exception):
    """What a time limit of an application raises."""


def function(number: int, frame: FrameType | None) -> None:
    raise TimeIsUpError


def of_any_arguments(*arguments: object) -> None:
    raise TimeIsUpError


def deep(number: int, frame: FrameType | None) -> None:
    function(number, None)


def forgetful(number: int, frame: FrameType | None) -> None:
    """Its arguments are gone when it raises, and it is registered no more."""
    del number, frame
    raise TimeIsUpError


def replaced(number: int, frame: FrameType | None) -> None:
    """It is registered no more when it raises."""
    signal.signal(NUMBER, signal.SIG_IGN)
    raise TimeIsUpError


class Limit:
    """Handlers of other kinds."""

    def method(self, number: int, frame: FrameType | None) -> None:
        raise TimeIsUpError

    def __call__(self, number: int, frame: FrameType | None) -> None:
        raise TimeIsUpError


def with_more(limit: str, number: int, frame: FrameType | None) -> None:
    raise TimeIsUpError(limit)


HANDLERS: list[Callable[..., Any]] = [
    function, of_any_arguments, deep, forgetful, replaced, Limit().method, Limit(), partial(with_more, "2 s"),
    lambda number, frame: function(number, None),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    forget_failures()
    yield
    signal.signal(NUMBER, before)
    forget_failures()


def interrupted(argument: object = None) -> None:
    signal.raise_signal(NUMBER)


def by_step() -> None:
    with fail_open("do something"):
        interrupted()


def by_reporting_clause() -> None:
    try:
        interrupted()
    except reported(fail_open("do something")):
        pass


def by_value() -> None:
    value_of(interrupted)


def by_clause() -> None:
    try:
        interrupted()
    except ours(Exception):
        pass


def by_nested_steps() -> None:
    with fail_open("do something"), fail_open("do something else"):
        value_of(by_clause)


class Interrupting(logging.Handler):
    """A log handler that is interrupted."""

    def emit(self, record: logging.LogRecord) -> None:
        interrupted()


def by_report() -> None:
    logger, handler = logging.getLogger("callspan"), Interrupting()
    logger.addHandler(handler)
    try:
        report("do something", ValueError())
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("swallow", [by_step, by_reporting_clause, by_value, by_clause, by_nested_steps, by_report])
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: getattr(handler, "__name__", type(handler).__name__))
def test_what_a_signal_handler_raises_passes(handler: Callable[..., Any], swallow: Callable[[], None]) -> None:
    forget_failures()
    signal.signal(NUMBER, handler)
    with pytest.raises(TimeIsUpError):
        swallow()
    assert set(failures()) <= {"do something"}
    assert failures() == {} or swallow is by_report


@pytest.mark.parametrize("swallow", [by_step, by_reporting_clause, by_value, by_clause, by_nested_steps])
def test_what_a_debugger_raises_passes(swallow: Callable[[], None]) -> None:
    class Quit(Exception):  # noqa: N818 - as in bdb
        pass

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is interrupted.__code__:
            raise Quit
        return trace

    before = sys.gettrace()
    signal.signal(NUMBER, signal.SIG_IGN)
    sys.settrace(trace)
    try:
        with pytest.raises(Quit):
            swallow()
    finally:
        sys.settrace(before)


def test_a_callback_that_looks_at_frames_and_fails_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log handlers do, to name their caller; the functions they ask are given the frame that is above them."""

    def describe(frame: FrameType | None, context: int = 1) -> None:
        raise IndexError("no source")

    def callback() -> None:
        describe(inspect.currentframe(), 2)

    with fail_open("call back"):
        callback()
    assert failures() == {"call back": 1}


def test_a_log_handler_that_raises_is_swallowed() -> None:
    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("a bug of the handler")

    logger, handler = logging.getLogger("callspan"), Raising()
    logger.addHandler(handler)
    try:
        with fail_open("do something"):
            raise ValueError
        log(logging.WARNING, "one thing")
    finally:
        logger.removeHandler(handler)


def test_a_line_of_the_log_names_the_place_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.WARNING, "%d things", 2)
    assert [(each.getMessage(), each.filename) for each in caplog.records] == [("2 things", "test_interrupts_pass.py")]


CALLERS_PATH = (
    "agent", "cost", "delivery/recorder.py", "observe", "process", "providers", "record", "reported", "semconv",
    "spool/segment.py", "spool/spool.py", "stores/urls.py", "safe_urls.py", "wiring/pipeline.py",
)  # fmt: skip
"""What runs on the caller's thread, where a signal handler may raise anything."""
OF_THE_PROTOCOL = {"StopAsyncIteration", "AttributeError", "BaseException"}
"""The end of an asynchronous generator; a finalizer, out of which nothing comes anyway; and what raises again."""


def test_an_interrupt_is_not_mistaken_for_an_expected_exception() -> None:
    """An `except` clause that names a type names it by `ours(...)`, or its step by `reported(...)`."""
    wrong = []
    for name in CALLERS_PATH:
        place = Path(callspan.__file__).parent / name
        for path in [place] if place.is_file() else place.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ExceptHandler) and node.type is not None:
                    named = ast.unparse(node.type)
                    if not named.startswith(("ours(", "reported(")) and named not in OF_THE_PROTOCOL:
                        wrong.append(f"{path}:{node.lineno} {named}")
    assert not wrong
