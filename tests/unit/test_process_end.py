"""Unit tests of the end of a process: SIGTERM, and the ends of forked workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from callspan import process_end
from callspan.fail_open import failures, forget_failures
from callspan.process_end import ForkedWorkers


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
def test_a_signal_without_a_handler_is_handled_and_restored() -> None:
    assert process_end.flush_before(lambda timeout_s: None)
    assert signal.getsignal(signal.SIGTERM) is process_end._end
    assert process_end.flush_before(lambda timeout_s: None)
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_signal_the_application_handles_is_left_alone(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    assert not process_end.flush_before(lambda timeout_s: None)
    process_end.forget()
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.usefixtures("default_sigterm")
def test_on_another_thread_nothing_is_changed() -> None:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(process_end.flush_before(lambda timeout_s: None)))
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
def test_the_latest_flush_is_called_and_an_exception_in_it_is_harmless() -> None:
    seen: list[float] = []

    def broken(timeout_s: float) -> None:
        seen.append(timeout_s)
        raise OSError("gone")

    process_end.flush_before(lambda timeout_s: seen.append(-1))
    process_end.flush_before(broken)
    process_end._flush()
    assert seen == [3.0]


def test_in_its_own_process_there_is_nothing_to_see_to() -> None:
    seen: list[float] = []
    delivered: list[float] = []
    workers = ForkedWorkers(seen.append, delivered.append)
    assert not workers.forked
    workers.first_call()
    assert seen == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_end_seen_to_at_its_first_call() -> None:
    workers = ForkedWorkers(lambda _: None, lambda _: None)
    child = os.fork()
    if child == 0:
        marked = bool(workers.forked)
        workers.first_call()
        os._exit(0 if marked and not workers.forked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not workers.forked


class _Library:
    """As much of multiprocessing as tells a worker: its process's name and the finalisers of its end."""

    def __init__(self, name: str) -> None:
        self.finalisers: list[Any] = []
        self._name = name

    def current_process(self) -> Any:
        return SimpleNamespace(name=self._name)

    def Finalize(self, obj: object, callback: Any, exitpriority: int) -> None:  # noqa: N802 - the library's name
        self.finalisers.append(callback)


@pytest.mark.parametrize(("name", "armed"), [("MainProcess", 0), ("ForkPoolWorker-1", 1)])
def test_a_new_process_arms_its_end_once_if_it_is_a_worker(
    name: str, armed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _Library(name)
    for module in ("billiard.util", "billiard.process"):
        monkeypatch.setitem(sys.modules, module, library)  # type: ignore[arg-type]
    seen: list[float] = []
    delivered: list[float] = []
    workers = ForkedWorkers(seen.append, delivered.append)
    workers.forked.set()
    workers.first_call()
    workers.first_call()
    assert len(library.finalisers) == armed
    for end in library.finalisers:
        end()
    assert seen == [3.0] * armed
    assert not delivered, "the spool sees to that itself"


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
