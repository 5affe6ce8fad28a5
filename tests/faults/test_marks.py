"""What an interrupt leaves of a worker's marks, at whatever line it comes, keeps no later work from being done."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from callspan import background
from callspan.background import Worker
from tests.faults.interrupts import leaves_block

LIMIT_S = 10.0


def interrupted_at(line: int, file: str, work: Callable[[], object]) -> bool:
    """Raise before so-manieth line that `work` executes in the file; False if it executes fewer."""
    count = 0

    def inside(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "line" and not leaves_block(frame):
            count += 1
            if count == line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return inside

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: inside if frame.f_code.co_filename == file else None)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def each_line(file: str, once: Callable[[int], bool]) -> int:
    """Do it with an interrupt at one line more each time, until none is left; return how many there were."""
    line = 1
    while once(line):
        line += 1
    return line - 1


def elsewhere(work: Callable[[], object]) -> None:
    """Do it on another thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_work_of_an_interrupted_thread_is_done_by_the_next() -> None:
    def once(line: int) -> bool:
        done: list[int] = []
        worker = Worker("test")
        worker._unstarted.test_and_clear()  # no thread of its own
        worker.put(lambda: done.append(1))
        came = interrupted_at(line, background.__file__, lambda: worker.drain(LIMIT_S))
        elsewhere(lambda: worker.drain(LIMIT_S))
        assert (done, worker._working) in (([1], {}), ([1, 1], {})), line
        return came

    assert each_line(background.__file__, once) >= 15


def test_a_worker_whose_start_was_interrupted_starts_with_the_next_work() -> None:
    def once(line: int) -> bool:
        done = threading.Event()
        worker = Worker("test")
        came = interrupted_at(line, background.__file__, lambda: worker.put(bool))
        worker.put(done.set)
        assert done.wait(LIMIT_S), line
        return came

    assert each_line(background.__file__, once) >= 4
