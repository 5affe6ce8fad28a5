"""After a fork the child records too, in every state of the parent's threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import contextlib, os, sys, threading
import openai
import callspan
from callspan.testing import ScriptedProvider
from callspan.wiring import WIRING

callspan.instrument(stores="sqlite:///calls.db")
provider = ScriptedProvider()

def ask(name):
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        for _ in client.chat.completions.create(model=name, messages=[], stream=True):
            pass

ask("parent")
held = threading.Event()
release = threading.Event()

def hold():
    with WIRING._lock, WIRING.patches._lock:
        held.set()
        release.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    ask("child")
    WIRING.flush(10)
    os._exit(0)
_, status = os.waitpid(child, 0)
release.set()
assert status == 0, status
assert WIRING.flush(10)
provider.close()
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    print(sorted(call.request.model for call in store.calls()))
"""


def test_a_child_forked_while_locks_were_held_records_its_calls(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['child', 'parent']"


@pytest.mark.timeout(700)
def test_children_forked_while_another_thread_makes_its_first_calls_neither_hang_nor_lose_or_double_a_call(
    tmp_path: Path,
) -> None:
    storm = Path(__file__).with_name("fork_storm.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(storm), "30"],
        capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
