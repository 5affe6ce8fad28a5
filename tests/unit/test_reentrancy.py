"""Work with plain locks: what a signal handler adds while its own thread holds them is done afterwards, in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callspan import background
from callspan.background import drain_deferred, run_reentrant

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals there")


class Work:
    """Takes a lock, and lets a signal come while it is held."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.threads: list[int] = []
        self._lock = threading.Lock()

    def do(self, name: str, signalled: bool) -> None:
        assert self._lock.acquire(timeout=5)
        try:
            if signalled:
                signal.raise_signal(signal.SIGUSR1)
            self.done.append(name)
            self.threads.append(threading.get_ident())
        finally:
            self._lock.release()


@pytest.fixture
def handle() -> Iterator[Callable[[Callable[[], None]], None]]:
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, lambda _number, _frame: handler()) and None
    signal.signal(signal.SIGUSR1, before)
    assert drain_deferred(5)


def test_what_a_handler_adds_is_done_after_what_it_has_interrupted(
    handle: Callable[[Callable[[], None]], None],
) -> None:
    work, drained = Work(), []

    def handler() -> None:
        run_reentrant(work.do, "in the handler", False)
        drained.append(drain_deferred(5))

    handle(handler)
    run_reentrant(work.do, "interrupted", True)
    assert drained == [False]
    assert drain_deferred(5)
    assert work.done == ["interrupted", "in the handler"]


def test_the_next_section_comes_after_what_was_deferred(handle: Callable[[Callable[[], None]], None]) -> None:
    work = Work()
    handle(lambda: run_reentrant(work.do, "in the handler", False))
    for _ in range(20):
        run_reentrant(work.do, "interrupted", True)
        run_reentrant(work.do, "next", False)
    assert work.done == ["interrupted", "in the handler", "next"] * 20


def test_a_handler_that_interrupts_no_section_does_its_work_at_once(
    handle: Callable[[Callable[[], None]], None],
) -> None:
    work = Work()
    handle(lambda: run_reentrant(work.do, "in the handler", False))
    signal.raise_signal(signal.SIGUSR1)
    assert work.done == ["in the handler"]
    assert work.threads == [threading.get_ident()]


def test_a_mark_that_an_interrupt_has_left_behind_defers_nothing() -> None:
    background._here.busy = True
    work = Work()
    run_reentrant(work.do, "afterwards", False)
    assert work.done == ["afterwards"]
    assert not background._here.busy


def test_what_raises_leaves_the_section() -> None:
    def fail(_first: object, _second: object) -> None:
        raise KeyError("work")

    with pytest.raises(KeyError):
        run_reentrant(fail, None, None)
    assert not background._here.busy


AT_EXIT = """
import os, signal, threading, time
from callspan.background import run_reentrant
lock = threading.Lock()
def work(name, signalled):
    with lock:
        if signalled:
            signal.raise_signal(signal.SIGUSR1)
            # The thread that has to do it waits for the lock as the process ends.
            time.sleep(0.2)
        print(name)
signal.signal(signal.SIGUSR1, lambda number, frame: run_reentrant(work, "in the handler", False))
run_reentrant(work, "interrupted", True)
"""


def test_what_was_deferred_last_is_done_as_the_process_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["interrupted", "in the handler"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks there")
def test_a_child_forked_in_a_handler_does_not_do_the_work_of_its_parent(
    handle: Callable[[Callable[[], None]], None],
) -> None:
    work, status = Work(), []

    def handler() -> None:
        run_reentrant(work.do, "in the handler", False)
        child = os.fork()
        if child == 0:
            os._exit(0 if drain_deferred(5) is False else 1)
        status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    handle(handler)
    run_reentrant(work.do, "interrupted", True)
    assert status == [0]
    assert drain_deferred(5)
    assert work.done == ["interrupted", "in the handler"]
