"""Background threads, types that several threads need at once, and the ends of processes."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from callspan import background, process_end
from callspan.background import LRUCache, Worker
from callspan.fail_open import failures, forget_failures
from callspan.process_end import ForkedWorkers


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


FIRST_USES: Final = """
import sys
import threading
import msgspec
from callspan.conversion import converter

def convert(made, barrier):
    barrier.wait()
    made({"f1": {"f2": 1}})

sys.setswitchinterval(1e-6)
for _ in range(200):
    inner = msgspec.defstruct("Inner", [(f"f{number}", "int | None", None) for number in range(20)])
    outer = msgspec.defstruct("Outer", [(f"f{number}", inner | None, None) for number in range(20)])
    made, barrier = converter(outer), threading.Barrier(4)
    threads = [threading.Thread(target=convert, args=(made, barrier)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("whole")
"""


def test_a_type_is_first_needed_by_several_threads_at_once() -> None:
    """With `partial(msgspec.convert, type=outer)` the first few types end the process."""
    done = subprocess.run([sys.executable, "-c", FIRST_USES], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n")


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_only_a_forked_child_has_its_end_seen_to_at_its_first_call() -> None:
    seen: list[float] = []
    workers = ForkedWorkers(seen.append, seen.append)
    child = os.fork()
    if child == 0:
        marked = bool(workers.forked)
        workers.first_call()
        os._exit(0 if marked and not workers.forked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    workers.first_call()
    assert not workers.forked
    assert seen == []


@pytest.mark.parametrize(("name", "ends"), [("MainProcess", []), ("ForkPoolWorker-1", [3.0])])
def test_a_worker_sends_at_its_end_and_another_child_does_not(
    name: str, ends: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    finalizers: list[Any] = []
    library = SimpleNamespace(
        current_process=lambda: SimpleNamespace(name=name),
        Finalize=lambda _, callback, exitpriority: finalizers.append(callback),
    )
    for module in ("billiard.util", "billiard.process"):
        monkeypatch.setitem(sys.modules, module, library)  # type: ignore[arg-type]
    seen: list[float] = []
    workers = ForkedWorkers(seen.append, seen.append)
    workers.forked.set()
    for _ in range(2):
        workers.first_call()
    for end in finalizers:
        end()
    assert seen == ends


def test_a_worker_of_celery_sends_and_delivers_when_celery_signals_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own workers are run in `tests/otel/test_celery.py`; here is what they tell, and how."""
    received: list[Any] = []
    ending = SimpleNamespace(
        connect=lambda receiver, weak, dispatch_uid: received.append((receiver, weak, dispatch_uid))
    )
    celery = SimpleNamespace(worker_process_shutdown=ending)
    monkeypatch.setitem(sys.modules, "celery.signals", celery)  # type: ignore[arg-type]
    seen: list[tuple[str, float]] = []
    workers = ForkedWorkers(lambda s: seen.append(("spans", s)), lambda s: seen.append(("records", s)))
    workers.forked.set()
    workers.first_call()
    ((receiver, weak, uid),) = received
    assert (weak, uid) == (False, "callspan")
    receiver(signal=ending, sender="worker@here", pid=1, exitcode=0)
    assert seen == [("records", 2.0), ("spans", 3.0)]


def test_a_failing_flush_and_a_changed_library_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(timeout_s: float) -> None:
        raise OSError("gone")

    for module in ("billiard.util", "billiard.process"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace())  # type: ignore[arg-type]
    workers = ForkedWorkers(broken, broken)
    workers._end()
    workers.forked.set()
    workers.first_call()
    assert failures() == {"send the spans of a forked worker": 1, "register a finalizer in a forked worker": 1}
