"""Background threads, types that several threads need at once, and the ends of processes."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan import background, process_end
from callspan.background import Worker
from callspan.fail_open import forget_failures


def until(true: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Wait for it; False if it did not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_where_no_thread_can_be_started_draining_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    worker, done = Worker("callspan-unstarted"), list[str]()
    monkeypatch.setattr(background._thread, "start_new_thread", refuse)
    worker.put(lambda: done.append("here"))
    assert worker.drain(5)
    assert done == ["here"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_leaves_the_parents_work_and_does_its_own() -> None:
    worker, begun, release = Worker("callspan-forked"), threading.Event(), threading.Event()
    done: list[str] = []
    worker.put(lambda: (begun.set(), release.wait(5)))
    worker.put(lambda: done.append("parent's"))
    assert begun.wait(5)
    child = os.fork()
    if child == 0:
        worker.put(lambda: done.append("child's"))
        os._exit(0 if worker.drain(5) and until(lambda: done == ["child's"]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()
    assert until(lambda: done == ["parent's"])


REQUEST = contextvars.ContextVar("request", default="none")


def test_a_background_thread_has_an_empty_context_and_makes_no_spans() -> None:
    seen: list[object] = []
    REQUEST.set("mine")
    token = otel_context.attach(otel_context.set_value("request", "mine"))

    def look() -> None:
        seen.extend((REQUEST.get(), otel_context.get_value("request"), is_instrumentation_enabled()))

    thread = background.thread(look, "callspan-look")
    thread.start()
    thread.join()
    otel_context.detach(token)
    assert seen == ["none", None, False]
    assert thread.daemon
    assert is_instrumentation_enabled()


@pytest.fixture(autouse=True)
def _no_failures() -> Iterator[None]:
    forget_failures()
    yield
    forget_failures()


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    process_end.forget()
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_a_signal_without_a_handler_is_handled_on_the_main_thread_and_restored() -> None:
    """The latest flush is called, and an exception in it is harmless."""
    seen: list[float] = []
    answers: list[bool] = []

    def broken(timeout_s: float) -> None:
        seen.append(timeout_s)
        raise OSError("gone")

    other = threading.Thread(target=lambda: answers.append(process_end.flush_before(seen.append)))
    other.start()
    other.join()
    assert (answers, signal.getsignal(signal.SIGTERM)) == ([False], signal.SIG_DFL)
    assert process_end.flush_before(lambda timeout_s: seen.append(-1))
    assert process_end.flush_before(broken)
    assert signal.getsignal(signal.SIGTERM) is process_end._end
    process_end._flush()
    assert seen == [3.0]
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_the_application_handles_is_left_alone(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    assert not process_end.flush_before(lambda timeout_s: None)
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is handler
