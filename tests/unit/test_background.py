"""Background threads: separate from the application's context, started on demand, never waited for under a lock."""

from __future__ import annotations

import contextvars
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan import background
from callspan.background import AtomicFlag, LastingThread, LRUCache, Worker
from callspan.fail_open import forget_failures

REQUEST = contextvars.ContextVar("request", default="none")


def until(true: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Wait for it; False if it did not become true in time."""
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return true()


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_of_many_threads_one_clears_a_flag_each_time_it_was_set() -> None:
    flag, cleared, rounds, ready = AtomicFlag(), list[int](), 200, threading.Barrier(4)
    assert not flag
    assert not flag.test_and_clear()

    def clear() -> None:
        for number in range(rounds):
            ready.wait(5)
            flag.set()
            ready.wait(5)
            if flag.test_and_clear():
                cleared.append(number)

    clearing = [threading.Thread(target=clear) for _ in range(4)]
    for each in clearing:
        each.start()
    for each in clearing:
        each.join()
    assert cleared == list(range(rounds))
    assert not flag
    assert AtomicFlag(is_set=True)


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


class Refusing:
    """A runtime context whose `attach` raises."""

    def attach(self, *_: object) -> object:
        raise RuntimeError("no context here")

    def get_current(self) -> dict[str, object]:
        return {}

    def detach(self, *_: object) -> None:
        raise RuntimeError("no context here")


def test_a_runtime_context_whose_attach_raises_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_context, "_RUNTIME_CONTEXT", Refusing())
    done: list[str] = []
    thread = background.thread(lambda: done.append("thread"), "callspan-refused")
    thread.start()
    thread.join()
    worker = Worker("callspan-refused-too")
    worker.put(lambda: done.append("put off"))
    assert until(lambda: done == ["thread", "put off"])


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
    assert caplog.messages == ["The thread callspan-lasting was ended by SystemExit and is started again"] * 3


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


@pytest.mark.usefixtures("hostile_log")
def test_a_log_handler_that_ends_threads_keeps_no_later_work_from_being_done() -> None:
    worker, done = Worker("callspan-ended"), list[str]()

    def work() -> None:
        done.append("begun")
        raise SystemExit

    forget_failures()
    worker.put(work)
    worker.put(lambda: done.append("later"))
    assert until(lambda: done == ["begun", "later"]), done


def test_work_is_done_by_a_thread_that_ends_when_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_IDLE_S", 0.05)
    worker = Worker("callspan-idle")
    for _ in range(3):
        done: list[int] = []
        worker.put(lambda done=done: done.append(threading.get_ident()))  # type: ignore[misc]
        assert until(lambda done=done: bool(done))  # type: ignore[misc]
        assert done != [threading.get_ident()]
        assert until(lambda: not threads("callspan-idle"))


def test_nothing_put_off_is_lost_while_the_thread_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_IDLE_S", 0.0)
    worker, done = Worker("callspan-busy"), set[tuple[int, int]]()

    def putting(number: int) -> None:
        for index in range(300):
            worker.put(lambda item=(number, index): done.add(item))
            time.sleep(0.00005)

    putters = [threading.Thread(target=putting, args=(number,)) for number in range(4)]
    for putter in putters:
        putter.start()
    for putter in putters:
        putter.join()
    assert until(lambda: len(done) == 1200)


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


def test_work_that_exits_keeps_no_later_work_from_being_done() -> None:
    worker, done = Worker("callspan-exiting"), list[str]()

    def exits() -> None:
        done.append("begun")
        raise SystemExit

    worker.put(exits)
    worker.put(lambda: done.append("later"))
    assert until(lambda: done == ["begun", "later"]), done
    assert worker.drain(5)


def test_draining_on_the_thread_itself_does_not_wait() -> None:
    worker, drained = Worker("callspan-itself"), list[bool]()
    worker.put(lambda: drained.append(worker.drain(60)))
    assert until(lambda: drained == [True])


def test_where_no_thread_can_be_started_draining_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    worker, done = Worker("callspan-unstarted"), list[str]()
    monkeypatch.setattr(background._thread, "start_new_thread", refuse)
    worker.put(lambda: done.append("here"))
    assert worker.drain(5)
    assert done == ["here"]


def test_a_finalizer_may_put_off_work_while_its_thread_holds_what_a_new_thread_needs() -> None:
    worker, done = Worker("callspan-finalizer"), list[int]()

    class Dropped:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            worker.put(lambda: done.append(1))

    Dropped()
    with threading._active_limbo_lock:  # type: ignore[attr-defined] # as where a collection runs within Thread.start
        gc.collect()
    assert until(lambda: done == [1])


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


def test_what_ends_a_worker_is_said_once_and_prints_no_traceback(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A redactor may raise an exception of its own that is no `Exception`."""

    class GaveUp(BaseException):
        pass

    def work() -> None:
        raise GaveUp

    forget_failures()
    worker = Worker("callspan-test-worker")
    for _ in range(3):
        worker.put(work)
    assert worker.drain(5)
    assert until(lambda: not threads("callspan-test-worker") or not worker._waiting)
    assert [message for message in caplog.messages if "GaveUp" in message] == [
        "Could not do work in the background (GaveUp); the call is not affected"
    ]
    assert "Traceback" not in capfd.readouterr().err
