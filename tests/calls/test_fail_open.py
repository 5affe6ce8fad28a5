"""Fail open: exceptions of callspan are logged and counted, never raised; all others pass."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from callspan.fail_open import fail_open, failures, forget_failures, reported


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    forget_failures()
    yield
    forget_failures()


def test_the_applications_exception_around_callspans_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It may quote a key."""
    with caplog.at_level(logging.DEBUG, logger="callspan"):
        try:
            int("sk-the-applications-key")
        except ValueError:
            with fail_open("do the impossible"):
                raise ValueError("why") from None
            with fail_open("do the impossible"):
                {}["ours"]
    assert "KeyError" in caplog.text
    assert "the-applications-key" not in caplog.text


class TimeLimitError(Exception):
    """What a time limit of the application raises."""


def time_is_up(number: int, frame: FrameType | None) -> None:
    raise TimeLimitError


class Limit:
    def method(self, number: int, frame: FrameType | None) -> None:
        raise TimeLimitError

    __call__ = method


HANDLERS = [time_is_up, Limit().method, Limit(), partial(time_is_up)]


@pytest.mark.parametrize("handler", HANDLERS, ids=["function", "method", "object", "partial"])
def test_what_a_signal_handler_raises_passes_through(handler: Any) -> None:
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(TimeLimitError), fail_open("do the impossible"):
            signal.raise_signal(signal.SIGUSR2)
        with fail_open("do the impossible"):
            raise TimeLimitError
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert failures() == {"do the impossible": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_exceptions_that_are_not_callspans_pass_through_a_block_and_a_clause(error: type[BaseException]) -> None:
    def clause() -> None:
        try:
            raise error
        except reported(fail_open("do the impossible")):
            pass

    with pytest.raises(error), fail_open("do the impossible"):
        raise error
    with pytest.raises(error):
        clause()
    assert failures() == {}


def test_an_exception_is_swallowed_counted_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="callspan"):
        for _ in range(3):
            with fail_open("do the impossible"):
                raise ValueError("secret words")
    assert failures() == {"do the impossible": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "Could not do the impossible (ValueError); the call is not affected"
    ]
