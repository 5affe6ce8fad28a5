"""A fork while another thread holds a lock of callspan, or imports something for it, waits a moment at most."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.conftest import Read
from tests.support.processes import ROOT, ran

pytestmark = pytest.mark.usefixtures("no_settings")

LOCKS = {
    "runtime/forks.py": ["callspan.runtime.forks._fork_lock[0]"],
    "runtime/conversion.py": ["callspan.runtime.conversion._READING"],
    "wiring/__init__.py": ["WIRING._lock"],
    "intercept/patching.py": ["WIRING.patches._lock"],
    "agent/registry.py": ["callspan.agent.registry._LOCK"],
    "agent/totals.py": ["callspan.agent.totals._LOCK"],
    "spool/spool.py": ["spool._lock", "spool._changed"],
    "spool/shipper.py": ["spool._shippers[0]._using"],
    "spool/segment.py": ["spool.segments()[0]._reading"],
    "spool/losses.py": ["spool.losses._writing"],
}
"""Where callspan makes a lock, and how to get it."""
OTHERS = {
    "receive/agents.py",
    "receive/spans.py",
    "testing/provider/script.py",
    "testing/provider/server.py",
    "testing/provider/stored_responses.py",
    "testing/replaying.py",
}
"""No call takes these, and no fork waits for them."""
MAKES_LOCK = re.compile(r"\b(?:R?Lock|Condition|Semaphore)\(\)")
ORDERS = [
    ("callspan", "logging", "concurrent.futures.thread"),
    ("logging", "concurrent.futures.thread", "callspan"),
    ("concurrent.futures.thread", "callspan", "logging"),
]
"""All three have hooks, which run in the reverse order before a fork."""

RECORDING = """
import importlib, json, os, sys, threading, time
for name in sys.argv[1].split():
    importlib.import_module(name)
import callspan

handle = callspan.instrument(stores="sqlite:///calls.db")

def record(model):
    with callspan.record_call(provider="openai", api="chat_completions", model=model) as call:
        call.request({"model": model, "messages": []})
        call.response({"object": "chat.completion", "model": model, "choices": []})

def fork(model, also=bool):
    began = time.monotonic()
    child = os.fork()
    if not child:
        import signal
        signal.alarm(300)
        also()
        record(model)
        os._exit(0)
    took_s = time.monotonic() - began
    return model, os.waitpid(child, 0)[1], took_s
"""

HOLDING = (
    RECORDING
    + """
record("parent")
handle.force_flush(300_000)
record("parent")
import callspan.runtime.conversion, callspan.agent.registry, callspan.agent.totals
from callspan.wiring import WIRING
spool = WIRING.pipeline.recorder.spool

def held_at_fork(name):
    held, over = threading.Event(), threading.Event()
    def hold():
        with eval(name):
            held.set()
            over.wait()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        return fork(name)
    finally:
        over.set()
        holder.join()

names = ["callspan.runtime.forks.LATE_IMPORTS", *json.loads(sys.argv[2])]
print(json.dumps([fork("none"), *(held_at_fork(name) for name in names), fork("none")]))
"""
)


LIMIT_S = 1.5
"""What a fork may take, beside ten times what one takes while no lock is held: less than a wait with a limit."""


def test_every_lock_is_documented() -> None:
    package = ROOT / "src" / "callspan"
    makers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if MAKES_LOCK.search(path.read_text("utf-8"))
    }
    assert makers == {*LOCKS, *OTHERS}


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_fork_waits_for_no_lock(order: tuple[str, ...], tmp_path: Path, reading: Read) -> None:
    names = [name for of_file in LOCKS.values() for name in of_file]
    done = ran("-W", "ignore", "-c", HOLDING, " ".join(order), json.dumps(names), cwd=tmp_path)
    forks = json.loads(done.stdout)
    longest_s = LIMIT_S + 10 * max(took_s for name, _, took_s in forks if name == "none")
    assert [(name, status) for name, status, took_s in forks if status or took_s > longest_s] == []
    models = [str(call.request.model) for call in reading(tmp_path / "calls.db").calls()]
    assert sorted(models) == sorted(["parent", "parent", *(name for name, *_ in forks)])


SLOW = """
import threading
lock, begun, forking = threading.Lock(), threading.Event(), threading.Event()
"""
DRIVER = """
import slow
slow.begun.set()
slow.forking.wait()
with slow.lock:
    complete = True
"""
IMPORTING = (
    RECORDING
    + """
import slow, callspan.runtime.forks

def before():
    slow.lock.acquire()
    slow.forking.set()

os.register_at_fork(before=before, after_in_parent=slow.lock.release, after_in_child=slow.lock.release)
record("parent")
importer = threading.Thread(target=callspan.runtime.forks.late_import, args=("driver",))
importer.start()
slow.begun.wait()

def imported_again():
    import driver
    assert driver.complete

first = fork("child", imported_again)
importer.join()
print(json.dumps([first, fork("none")]))
assert sys.modules["driver"].complete
"""
)


def test_fork_during_import_lets_child_import_again(tmp_path: Path, reading: Read) -> None:
    """The import waits for a lock that the application takes at a fork, as `logging` does."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "driver.py").write_text(DRIVER)
    done = ran("-W", "ignore", "-c", IMPORTING, "callspan", cwd=tmp_path)
    (_, status, took_s), (_, _, usual_s) = json.loads(done.stdout)
    assert (status, took_s < LIMIT_S + 10 * usual_s) == (0, True)
    assert [call.outcome for call in reading(tmp_path / "calls.db").calls()] == ["success"] * 3


AT_ONCE = (
    RECORDING
    + """
record("parent")
time.sleep(float(sys.argv[2]))
assert not fork("child")[1]
"""
)


@pytest.mark.parametrize("after_s", ["0.02", "0.1"])
def test_fork_right_after_first_call(after_s: str, tmp_path: Path, reading: Read) -> None:
    """Prices are imported then, and they import a library that logs."""
    ran("-W", "ignore", "-c", AT_ONCE, "callspan logging", after_s, cwd=tmp_path)
    assert [call.outcome for call in reading(tmp_path / "calls.db").calls()] == ["success"] * 2
