"""Sessions in a real store with real SDKs: after kills, from two processes, and joined records."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import openai
import pytest

import callspan
from callspan.delivery import leftovers
from callspan.records import EventRecord, Record, RewardRecord
from callspan.stores import Reader
from callspan.stores.tool_uses import tool_uses
from callspan.testing import ScriptedProvider

TOOL_CALL = {"name": "move", "arguments": {"direction": "up"}, "id": "call_1"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.db'}"


def read(url: str) -> closing[Reader]:
    return closing(callspan.open_store(url))


def run(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), *arguments])


def delivered(url: str) -> None:
    """Deliver what a dead process left behind, as any next process does."""
    leftovers.deliver(url)


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
        assert sorted(step.index for step in steps) == sorted([0, *range(1, 11), *range(1, 11)])
        assert len({step.trace_id for step in steps}) == 1
        calls = list(reader.calls())
    own_steps = {step.timestep_id for step in steps}
    assert {call.place.timestep_id for call in calls} < own_steps
    assert len({call.pid for call in calls}) == 2


def test_updates_over_time_are_one_row_with_everything_known(tmp_path: Path) -> None:
    """Chronicle's runs and steps: status and info change, the last word counts, None changes nothing."""
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    handle = callspan.instrument(stores=store)
    try:
        with (
            callspan.metadata(application="shop", environment="test", prompt_version=3),
            callspan.session("run", session_id="r1", metadata={"tags": ["a"], "input": "x"}) as own,
        ):
            own.update(status="waiting", metadata={"info": 1, "input": None})
            with own.timestep("fetch", metadata={"input": "y"}) as step:
                step.update(status="paging", metadata={"page": 1})
                step.update(metadata={"page": 2, "input": None})
            with own.timestep("skip") as skipped:
                skipped.update(status="skipped")
            own.update(metadata={"output": "z"}, status="done early")
        with callspan.session("run", session_id="r1", metadata={"again": True}):
            pass
        step.update(metadata={"judged": "later"})
        handle.force_flush()
    finally:
        handle.uninstrument()
    with read(store) as reader:
        (summary,) = reader.sessions()
        first, second = reader.timesteps("r1")
    around = {"application": "shop", "environment": "test", "prompt_version": 3}
    values = {"tags": ["a"], "input": "x", "info": 1, "output": "z", "again": True}
    assert summary.session.metadata == {**around, **values}
    assert first.metadata == {**around, "input": "y", "page": 2, "judged": "later"}
    assert (first.name, first.outcome, first.end_ns is not None) == ("fetch", "paging", True)
    assert (second.name, second.outcome) == ("skip", "skipped")


@pytest.mark.parametrize("order", ["start first", "end first", "end twice"])
def test_an_end_that_comes_before_its_start_is_not_lost(tmp_path: Path, order: str) -> None:
    path = tmp_path / "turned.db"
    with callspan.testing.capture() as captured, callspan.session("s", session_id="s1") as own, own.timestep("t"):
        pass
    records = captured.everything
    turned = {"start first": records, "end first": records[::-1], "end twice": [*records[::-1], records[-1]]}[order]
    from callspan.wiring import WIRING

    handle = callspan.instrument(stores=f"sqlite:///{path}")
    for record in turned:
        WIRING.write(record)
    handle.uninstrument()
    with closing(sqlite3.connect(path)) as connection:
        sessions = connection.execute("SELECT session_id, name, outcome, end_ns > start_ns FROM sessions").fetchall()
        steps = connection.execute(
            "SELECT name, outcome, end_ns >= start_ns, trace_id IS NULL FROM timesteps"
        ).fetchall()
    assert sessions == [("s1", "s", "success", 1)]
    assert steps == [("t", "success", 1, 0)]


Tell = Callable[[Any], object]


def chat(url: str, tell: Tell) -> None:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
        message = client.chat.completions.create(model="m", messages=messages).choices[0].message
        tell((message.tool_calls or [])[0])
        answer = {"role": "tool", "tool_call_id": "call_1", "content": "moved"}
        messages += [message.model_dump(exclude_none=True), answer]
        client.chat.completions.create(model="m", messages=messages)
        client.chat.completions.create(model="m", messages=[*messages, {"role": "user", "content": "on"}])


def responses(url: str, tell: Tell) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
        reply = client.responses.create(model="m", input="go")
        tell(reply.output[0])
        answer: Any = {"type": "function_call_output", "call_id": "call_1", "output": "moved"}
        client.responses.create(model="m", previous_response_id=reply.id, input=[answer])


def messages(url: str, tell: Tell) -> None:
    message: Any = {"role": "user", "content": "go"}
    with anthropic.Anthropic(base_url=url, api_key="k") as client:
        reply = client.messages.create(model="m", max_tokens=9, messages=[message])
        tell(reply.content[0])
        turns: list[Any] = [message, {"role": "assistant", "content": reply.content}]
        answer = {"type": "tool_result", "tool_use_id": "call_1", "content": "moved"}
        client.messages.create(model="m", max_tokens=9, messages=[*turns, {"role": "user", "content": [answer]}])


@pytest.mark.parametrize("talk", [chat, responses, messages])
@pytest.mark.parametrize("reported", [True, False], ids=["tool reported", "nothing reported"])
def test_a_tool_result_in_the_next_request_joins_the_call_that_requested_it(
    store: str, provider: ScriptedProvider, talk: Callable[[str, Tell], None], reported: bool
) -> None:
    provider.reply(tool_calls=[TOOL_CALL])

    def tell(call: object) -> None:
        if reported:
            with callspan.tool(call=call) as tool:
                tool.result = "moved it"

    handle = callspan.instrument(stores=store)
    try:
        with callspan.session("s") as own, own.timestep() as step:
            talk(provider.url, tell)
    finally:
        handle.uninstrument()
    with read(store) as reader:
        (use,) = tool_uses(reader, own.id)
        first, second, *_ = sorted(reader.calls(), key=lambda call: call.timing.start_ns)
    assert use.tool_call is not None
    assert use.result is not None
    assert (use.tool_call_id, use.tool_call.name) == ("call_1", "move")
    assert json.loads(use.tool_call.arguments or "") == {"direction": "up"}
    assert use.result.content == "moved"
    assert (use.requested_in, use.returned_in, use.timestep_id) == (first.call_id, second.call_id, step.id)
    assert (use.run is not None) == reported
    if use.run is not None:
        assert use.run.data == {"arguments": {"direction": "up"}, "result": "moved it"}


def test_a_tool_call_id_used_twice_by_a_gateway_is_two_uses(tmp_path: Path, provider: ScriptedProvider) -> None:
    store = f"sqlite:///{tmp_path / 'again.db'}"
    provider.reply(tool_calls=[TOOL_CALL])
    provider.reply(tool_calls=[TOOL_CALL])
    handle = callspan.instrument(stores=store)
    turns: list[Any] = [{"role": "user", "content": "go"}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client, callspan.session("s") as own:
        for number in range(2):
            message = client.chat.completions.create(model="m", messages=turns).choices[0].message
            with own.tool(call=(message.tool_calls or [])[0]) as tool:
                tool.result = number
            answer = {"role": "tool", "tool_call_id": "call_1", "content": f"result {number}"}
            turns += [message.model_dump(exclude_none=True), answer]
        client.chat.completions.create(model="m", messages=turns)
    handle.uninstrument()
    with read(store) as reader:
        first, second = tool_uses(reader, own.id)
    assert [use.result and use.result.content for use in (first, second)] == ["result 0", "result 1"]
    assert [use.run and use.run.data["result"] for use in (first, second)] == [0, 1]  # type: ignore[index]
    assert first.requested_in != second.requested_in
    assert first.returned_in == second.requested_in


def test_a_result_of_an_unknown_call_is_a_use_without_a_call(tmp_path: Path, provider: ScriptedProvider) -> None:
    store = f"sqlite:///{tmp_path / 'orphan.db'}"
    handle = callspan.instrument(stores=store)
    answer: Any = {"role": "tool", "tool_call_id": "call_0", "content": "found"}
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client, callspan.session("s") as own:
        client.chat.completions.create(model="m", messages=[answer])
        with own.tool("look", call="call_9"):
            pass
    handle.uninstrument()
    with read(store) as reader:
        found, lone = tool_uses(reader, own.id)
    assert (found.tool_call, found.requested_in, found.result and found.result.content) == (None, None, "found")
    assert (lone.tool_call_id, lone.run and lone.run.name, lone.result) == ("call_9", "look", None)


def test_feedback_finds_its_call_and_session_long_after_the_end(tmp_path: Path, provider: ScriptedProvider) -> None:
    store = f"sqlite:///{tmp_path / 'late.db'}"
    handle = callspan.instrument(stores=store)
    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client, callspan.session("s") as own:
        client.responses.create(model="m", input="hello")
    handle.force_flush()
    with read(store) as reader:
        (call,) = reader.calls()
    callspan.feedback(call.call_id, 1, label="good", annotation="to the point")
    callspan.reward(0.25, session_id=own.id, source="judge", objective="style")
    own.outcome(reward=2.0, success=True)
    handle.uninstrument()
    with read(store) as reader:
        summary = reader.session(own.id)
        rewards = [item for item in reader.events(own.id) if isinstance(item, RewardRecord)]
    assert summary is not None
    assert (summary.reward, summary.session.success) == (2.0, True)
    assert {(reward.objective, reward.value, reward.scope) for reward in rewards} >= {
        ("style", 0.25, "session"),
        ("reward", 2.0, "session"),
    }
    with closing(sqlite3.connect(tmp_path / "late.db")) as connection:
        kept = connection.execute(
            "SELECT call_id, value, label, annotation FROM rewards WHERE scope = 'call'"
        ).fetchall()
    assert kept == [(call.call_id, 1.0, "good", "to the point")]


@pytest.mark.parametrize("stream", [False, True])
def test_callbacks_see_calls_before_and_after_they_are_recorded(provider: ScriptedProvider, stream: bool) -> None:
    kept: list[str] = []

    def enrich(record: Record) -> Record:
        return msgspec.structs.replace(record, metadata={"reviewed": True})

    removals = [
        callspan.add_callback("before_record", enrich, kinds=["call"]),
        callspan.add_callback(
            "after_record", lambda record: kept.append(type(record).__name__), kinds=["call", "session"]
        ),
    ]
    try:
        with (
            callspan.testing.capture() as captured,
            openai.OpenAI(base_url=provider.openai_url, api_key="k") as client,
            callspan.session("s"),
        ):
            reply: Any = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=stream
            )
            assert list(reply)
    finally:
        for remove in removals:
            remove()
    (call,) = captured.records
    assert call.metadata == {"reviewed": True}
    assert call.conversation is not None
    assert kept == ["SessionRecord", *["CallRecord"] * (1 + stream), "SessionRecord"]
    (span,) = [span for span in captured.spans if span.name == "chat m"]
    assert span.attributes is not None
    assert "reviewed" in str(span.attributes["llm.meta.extra"])
