"""Background threads: separate from the application's context, started on demand, never waited for under a lock."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan import background
from callspan.background import LastingThread, LRUCache, Worker


def until(true: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Wait for it; False if it did not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_cache_forgets_what_was_not_used_for_longest() -> None:
    known: LRUCache[str, int] = LRUCache(2)
    known.put("read", 1)
    known.put("untouched", 2)
    assert known.get("read") == 1
    known.put("newest", 3)
    assert (known.get("untouched"), known.get("read")) == (None, 1)
    assert known.claim("newest", 3)
    known.claim("claimed", 4)
    assert (known.get("read"), known.get("newest")) == (None, 3)


def test_a_thread_that_an_exception_ends_is_started_again_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    died: list[tuple[str, str]] = []
    runs, pauses = list[int](), list[float]()

    def target() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise SystemExit

    lasting = LastingThread(target, "callspan-lasting", lambda *death: died.append(death), pauses.append)
    lasting.start()
    assert until(lambda: len(runs) == 4)
    assert lasting.join(5)
    assert until(lambda: not threads("callspan-lasting"))
    assert died == [("callspan-lasting", "SystemExit")] * 3
    assert (lasting.deaths, pauses) == (3, [0.1, 0.2, 0.4])
    assert caplog.messages == ["The thread callspan-lasting was ended by SystemExit and is restarted"] * 3


class GivesUp(logging.Handler):
    """A log handler of an application that ends its thread."""

    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit


@pytest.fixture
def hostile_log() -> Iterator[None]:
    handler, logger = GivesUp(), logging.getLogger("callspan")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("hostile_log")
def test_a_log_handler_that_ends_threads_keeps_none_from_being_started_again() -> None:
    runs, deaths = list[int](), list[str]()

    def target() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise SystemExit

    LastingThread(target, "callspan-lasting", lambda name, _: deaths.append(name), lambda _: None).start()
    assert until(lambda: (len(runs), deaths) == (3, ["callspan-lasting"] * 2)), (runs, deaths)


def test_work_is_done_by_a_thread_that_ends_when_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_IDLE_S", 0.05)
    worker = Worker("callspan-idle")
    for _ in range(3):
        done: list[int] = []
        worker.put(lambda done=done: done.append(threading.get_ident()))  # type: ignore[misc]
        assert until(lambda done=done: bool(done))  # type: ignore[misc]
        assert done != [threading.get_ident()]
        assert until(lambda: not threads("callspan-idle"))


def test_draining_waits_for_what_the_thread_is_doing_and_no_longer_than_it_may() -> None:
    worker, begun, release = Worker("callspan-slow"), threading.Event(), threading.Event()
    worker.put(lambda: (begun.set(), release.wait(5)))
    assert begun.wait(5)
    started = time.monotonic()
    assert not worker.drain(0.05)
    assert time.monotonic() - started < 2
    release.set()
    assert worker.drain(5)


def test_work_with_a_delay_is_done_when_it_is_due_or_at_the_end() -> None:
    worker, done = Worker("callspan-later"), list[str]()
    worker.put_later(0.05, lambda: done.append("due"))
    worker.put_later(60, lambda: done.append("at the end"))
    assert until(lambda: done == ["due"])
    worker.drain(5)
    assert done == ["due"]
    worker.drain(5, later=True)
    assert done == ["due", "at the end"]


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
