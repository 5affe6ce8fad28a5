"""A signal handler that makes calls, at any interrupted line of callspan: no deadlock, and all calls are recorded.

A sample of the lines; every line at full scale. See `calls_in_signals.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale import scaled

pytestmark = pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="no such signals there")
HARNESS = Path(__file__).with_name("calls_in_signals.py")


def points(*options: str) -> int:
    """How many lines were interrupted by a call; each call of the program has one span, record and measurement."""
    done = subprocess.run([sys.executable, str(HARNESS), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    results = found["results"]
    assert set(results) == {"points", "calls"}, found
    return int(results["points"])


def test_a_call_made_by_a_signal_handler_at_a_few_lines() -> None:
    assert points("--share", "0.004", "--seed", "3", "--scenes", "plain", "step", "async_stream") > 10


@pytest.mark.timeout(scaled(600, 0))
def test_a_call_made_by_a_signal_handler_at_sampled_lines_of_every_scene() -> None:
    assert points("--share", scaled("0.01", "0.05"), "--seed", "1") > 200


PROGRAM = """
import contextlib, faulthandler, os, signal, sys
import openai
import callspan
from callspan.testing import ScriptedProvider

EVERY, ROUNDS = int(sys.argv[1]), int(sys.argv[2])
SOURCE = os.path.dirname(callspan.__file__)
faulthandler.dump_traceback_later(80, exit=True)
provider = ScriptedProvider()
handle = callspan.instrument(stores="sqlite:///calls.db")
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
lines, made, session_now = [0], [0], []
nested = [False]

def ask(kind):
    made[0] += 1
    if kind == 0:
        client.chat.completions.create(model="m", messages=[])
    elif kind == 1:
        list(client.chat.completions.create(model="m", messages=[], stream=True))
    elif kind == 2:
        with session_now[0].timestep() as step:
            step.environment("o", reward=1.0, terminated=False)
            client.chat.completions.create(model="m", messages=[])
    else:
        with callspan.record_call(provider="p") as call:
            call.request({"model": "m", "messages": []})
            call.response({"choices": []})

def handler(number, frame):
    nested[0] = True
    try:
        ask(made[0] % 4)
    finally:
        nested[0] = False

signal.signal(signal.SIGUSR1, handler)

def trace(frame, event, argument):
    name = frame.f_code.co_filename
    if nested[0] or not name.startswith(SOURCE) or "/testing/" in name:
        return None
    if event == "line":
        lines[0] += 1
        if lines[0] % EVERY == 0:
            signal.raise_signal(signal.SIGUSR1)
    return trace

with callspan.session("s") as session:
    session_now.append(session)
    for kind in range(4):
        ask(kind)
    for round in range(ROUNDS):
        sys.settrace(trace)
        ask(round % 4)
        sys.settrace(None)
assert handle.force_flush(20_000)
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    outcomes = [call.outcome for call in store.calls()]
provider.close()
print(len(outcomes) == made[0], set(outcomes), made[0] > 2 * ROUNDS)
"""


# Keeping a record takes 35 lines, and the calls of the handler leave two records each, on the average: made at every
# 70th line or more often, they leave more to keep than the interrupted code can ever finish.
def test_calls_made_by_a_signal_handler_and_those_it_interrupts_are_all_recorded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "211", "8"], capture_output=True, text=True, timeout=100, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True {'success'} True"
