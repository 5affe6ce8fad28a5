"""Marks (who writes, who works, what is attached) never outlive the code that set them, wherever it is interrupted."""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import callspan
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


PAIRS = {"acquire": ("release",), "attach": ("attach", "detach"), "set": ("clear", "test_and_clear", "pop")}
"""Methods that mark, and those that take the mark back."""


def marks_outside_their_try(tree: ast.AST) -> Iterator[str]:
    """Find statements before a `try` which its `finally`, or a clause for all exceptions, takes back."""
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            for place, statement in enumerate(block if isinstance(block, list) else ()):
                if isinstance(statement, ast.Try):
                    taken = list(taken_back(statement))
                    for before in block[:place]:
                        yield from (f"{before.lineno}: {ast.unparse(before)}" for undo in taken if undoes(undo, before))


def taken_back(block: ast.Try) -> Iterator[ast.stmt]:
    yield from block.finalbody
    for handler in block.handlers:
        if handler.type is None or ast.unparse(handler.type) == "BaseException":
            yield from handler.body


def undoes(undo: ast.stmt, mark: ast.stmt) -> bool:
    if isinstance(mark, ast.Assign) and isinstance(undo, ast.Assign):
        same = ast.dump(mark.value) == ast.dump(undo.value)  # a default that is set again
        return isinstance(mark.targets[0], ast.Attribute) and not same and targets(mark) == targets(undo)
    one, other = method(mark), method(undo)
    return one is not None and other is not None and one[0] == other[0] and other[1] in PAIRS.get(one[1], ())


def targets(assignment: ast.Assign) -> list[str]:
    return [ast.unparse(target) for target in assignment.targets]


def method(statement: ast.stmt) -> tuple[str, str] | None:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return None


def test_what_is_taken_back_is_done_inside_the_try() -> None:
    root = Path(callspan.__file__).parent
    found = [
        f"{path.relative_to(root)}:{mark}"
        for path in root.rglob("*.py")
        for mark in marks_outside_their_try(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def test_a_mark_before_its_try_is_found() -> None:
    lines = "def work(self):\n {}\n try:\n  go()\n finally:\n  {}\n"
    for mark, undo in (("self.busy = True", "self.busy = False"), ("lock.acquire()", "lock.release()")):
        assert list(marks_outside_their_try(ast.parse(lines.format(mark, undo)))) == [f"2: {mark}"]
    assert not list(marks_outside_their_try(ast.parse(lines.format("self.end = None", "self.end = None"))))
