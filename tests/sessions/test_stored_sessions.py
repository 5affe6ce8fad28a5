"""Sessions in a real store with real SDKs: after kills, from two processes, and tools by their calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

import callspan
from callspan.records import EventRecord
from callspan.stores import Reader
from callspan.testing import ScriptedProvider


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.db'}"


def read(url: str) -> closing[Reader]:
    return closing(callspan.open_store(url))


def run(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), *arguments])


def delivered(url: str) -> None:
    """Deliver what a dead process left behind, as any next process does."""
    callspan.open_store(url, deliver=True).close()


VICTIM = """
    import os, signal, sys
    import callspan, openai
    callspan.instrument(stores=sys.argv[1])
    client = openai.OpenAI(base_url=sys.argv[2], api_key="k")
    with callspan.session("doomed", session_id="doomed", metadata={"seed": 7}) as own:
        own.observation("start")
        for index in range(3):
            with own.timestep() as step:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": str(index)}])
                step.action(index)
                step.update(metadata={"at": index})
                if index == 2:
                    with step.tool("dig", arguments={"depth": 9}):
                        os.kill(os.getpid(), signal.SIGKILL)
                step.environment(index, reward=1.0)
"""


def test_a_killed_process_leaves_everything_so_far_and_the_session_interrupted(
    store: str, provider: ScriptedProvider
) -> None:
    assert run(VICTIM, store, provider.openai_url).wait(60) == -signal.SIGKILL
    delivered(store)
    with read(store) as reader:
        summary = reader.session("doomed")
        assert summary is not None
        assert (summary.session.outcome, summary.session.end_ns) == ("interrupted", None)
        assert summary.session.metadata == {"seed": 7}
        assert (summary.timesteps, summary.calls, summary.reward) == (3, 3, 2.0)
        steps = list(reader.timesteps("doomed"))
        assert [(step.index, step.outcome) for step in steps] == [(0, "success"), (1, "success"), (2, None)]
        assert steps[2].metadata == {"at": 2}
        *_, action, tool = reader.events("doomed")
    assert isinstance(action, EventRecord)
    assert isinstance(tool, EventRecord)
    assert (action.event_type, action.data) == ("action", 2)
    assert (tool.event_type, tool.name, tool.data) == ("tool_start", "dig", {"arguments": {"depth": 9}})


WORKER = """
    import json, sys
    import callspan, openai
    handle = callspan.instrument(stores=sys.argv[1])
    client = openai.OpenAI(base_url=sys.argv[2], api_key="k")
    with callspan.session(carrier=json.loads(sys.argv[3])) as own:
        for index in range(10):
            with own.timestep() as step:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": sys.argv[4]}])
                step.environment(index, reward=0.5)
        own.update(metadata={sys.argv[4]: True})
    handle.uninstrument()
"""


def test_two_processes_add_steps_to_one_session_at_once(tmp_path: Path, provider: ScriptedProvider) -> None:
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    handle = callspan.instrument(stores=store)
    try:
        with callspan.session("shared", metadata={"seed": 7}) as own:
            with own.timestep():
                pass
            carrier = json.dumps(own.carrier())
            workers = [run(WORKER, store, provider.openai_url, carrier, name) for name in ("left", "right")]
            assert [worker.wait(60) for worker in workers] == [0, 0]
            own.outcome(success=True)
    finally:
        handle.uninstrument()
    with read(store) as reader:
        summary = reader.session(own.id)
        assert summary is not None
        assert (summary.timesteps, summary.calls, summary.events, summary.reward) == (21, 20, 20, 10.0)
        assert summary.session.metadata == {"seed": 7, "left": True, "right": True}
        assert (summary.session.name, summary.session.outcome, summary.session.success) == ("shared", "success", True)
        assert summary.session.pid == os.getpid()
        steps = list(reader.timesteps(own.id))
        assert sorted(step.index for step in steps) == sorted([0, *range(10), *range(10)])
        assert len({step.trace_id for step in steps}) == 1
        calls = list(reader.calls())
    own_steps = {step.timestep_id for step in steps}
    assert {call.place.timestep_id for call in calls} < own_steps
    assert len({call.pid for call in calls}) == 2
