"""The real packages of frameworks and of other instrumentations, run in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from tests.conftest import Read
from tests.support.launching import APPS, Stage, python_of
from tests.support.processes import ROOT, plain_environment
from tests.support.receiver import OtlpReceiver
from tests.support.waiting import HANG_S
from tests.view.conftest import ToolBoxes, boxes_of

from callspan.records import CallRecord, EventRecord, parse_arguments
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider

FRAMEWORKS = (
    "openai-agents", "langchain", "litellm", "instructor", "pydantic-ai", "langgraph", "crewai", "smolagents", "agno",
    "llama-index", "dspy", "strands",
)  # fmt: skip
OWN_TRACING = ("pydantic-ai", "strands")
"""Frameworks with OpenTelemetry spans of their own, which are above ours."""
UNENDED = {"left", "cancelled"}
"""Scenes in which Strands ends no span of its own; where a stream is read to its end, its span is the one there is."""


@cache
def printed(environment: str, app: str, *arguments: str) -> Any:
    python = python_of(f"frameworks/{environment}")
    command = [python, str(APPS / "frameworks" / app), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    results = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(results[0]) if results else None


def played(framework: str, switch: str = "on") -> Any:
    """What came of every scene of a framework with callspan on or off."""
    return printed(framework, "frameworks.py", framework, switch)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_results_and_requests_are_the_same_with_callspan_on_and_off(framework: str) -> None:
    on, off = played(framework)["scenes"], played(framework, "off")["scenes"]
    assert {name: (scene["result"], scene["wire"]) for name, scene in on.items()} == {
        name: (scene["result"], scene["wire"]) for name, scene in off.items()
    }
    assert not any(scene["spans"] for scene in off.values())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_wire_call_has_one_record_and_one_child_span(framework: str) -> None:
    scenes = played(framework)["scenes"]
    for name, scene in scenes.items():
        calls = len(scene["wire"])
        assert (calls > 1) == bool({"tools", "retried", "two"} & {*name.split(":")}), name
        is_unended = framework == "strands" and not UNENDED.isdisjoint(name.split(":"))
        found = scene["spans"], scene["llm_spans"], scene["under_caller"]
        assert found == ((0, 0, 0) if is_unended else (calls, calls, calls)), name
        assert len(scene["outcomes"]) == calls, name
        assert set(scene["outcomes"]) == {"cancelled"} or not is_unended, name


@pytest.mark.parametrize("framework", OWN_TRACING)
def test_framework_agent_spans_are_parents(framework: str) -> None:
    scenes = played(framework)["scenes"]
    traced = [scene["parents"] for name, scene in scenes.items() if "traced" in name and scene["spans"]]
    assert traced
    assert all(any(name.startswith("invoke_agent") for name in parents) for parents in traced)


AGENTS = {
    "strands": 4, "google-adk": 2, "autogen": 4, "pydantic-ai": 2, "langgraph": 2, "agno": 2, "smolagents": 4,
    "llama-index": 4, "crewai": 2,
}  # fmt: skip
"""How many sessions two conversations of two turns are, by framework: the conversations if its spans name them."""
NAMED = ("google-adk", "langgraph", "agno")
"""Frameworks whose conversations the application names."""


@pytest.mark.parametrize("framework", AGENTS)
def test_agents_are_sessions(framework: str, store: str, reading: Read) -> None:
    """Two conversations at once."""
    told = printed(framework, "emitting_agents.py", framework, store)
    assert (told["errors"], told["calls"], told["loose"], told["mixed"]) == ([], 10, 0, 0)
    assert (len(told["sessions"]), told["outcomes"]) == (AGENTS[framework], ["success"])
    if framework in NAMED:
        assert told["sessions"] == ["thread of gpt-5-conv-a", "thread of gpt-5-conv-b"]
    tools = [name for name in told["tools"] if name != "final_answer"]
    assert tools == ["add"] * 4 + ["weather"] * 4
    every = len(told["tools"])
    assert told["with id"] == told["with arguments"] == told["joined"] == told["timed"] == every
    assert told["with result"] == (0 if framework == "autogen" else every), "spans of autogen's tools state none"
    reader = reading(store)
    for summary in reader.sessions():
        session_id = summary.session.session_id
        # No two tool calls of a conversation are equal.
        called = {named for call in reader.calls(CallFilter(session_id=session_id)) for named in called_in(call)}
        assert boxes_of(store, session_id) == ToolBoxes(len(called), 0, 0, 0)


def called_in(call: CallRecord) -> Iterator[tuple[str | None, str]]:
    assert call.conversation is not None
    for message in (*call.conversation.input, *call.conversation.output):
        yield from ((tool.name, str(parse_arguments(tool.arguments))) for tool in message.tool_calls)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_warning_is_logged(framework: str) -> None:
    assert played(framework)["heard"] == []


GOLDEN = json.loads(Path(__file__).with_name("openai_agents.json").read_text())
"""What openai-agents does; calls by voice as their API, outcome, model, text, tokens (input, audio, output), tools."""
VOICE = GOLDEN["calls by voice"]


@pytest.mark.parametrize("name", VOICE)
def test_openai_agents_voice_calls_have_usage(name: str) -> None:
    """At the websockets that it opens itself, and over HTTP."""
    on, off = (dict(printed("openai-agents", "openai_agents_voice.py", switch)[name]) for switch in ("on", "off"))
    assert on.pop("calls") == VOICE[name]
    spans, sessions = on.pop("spans"), on.pop("sessions")
    assert sum(span.startswith(("chat", "generate_content")) for span in spans) == len(VOICE[name])
    workflow = "voice" if name == "realtime" else "Voice Agent"
    assert [span for span in spans if span.startswith("invoke_workflow")] == [f"invoke_workflow {workflow}"]
    assert sessions == [workflow]
    assert on == off
    if name != "realtime":
        assert len(off["wire"]) + off["received"].count("input_audio_buffer.append") == len(VOICE[name])


def run_by_agents(environment: str) -> Any:
    """What came of every scene of openai-agents with its tracing on, by API and scene."""
    return printed(environment, "openai_agents_runs.py")


agents_environments = pytest.mark.parametrize("environment", ["openai-agents", "openai-agents-oldest"])


@agents_environments
def test_openai_agents_scopes_are_nested_like_its_spans(environment: str) -> None:
    """Its own spans are read by a processor of its own, by their ids."""
    for name, found in run_by_agents(environment).items():
        assert found["ours"] == found["theirs"], name
        assert found["records"] == len(found["calls"]), name
        assert found["asked"] == len(found["calls"]) or name.endswith("tripwire"), "it may cancel a call that waits"


@agents_environments
def test_openai_agents_run_is_one_trace_and_one_session(environment: str) -> None:
    scenes = run_by_agents(environment)
    for name, found in scenes.items():
        runs = {"in_a_group": 2, "many": 200}.get(name.partition(":")[2], 1)
        assert found["traces"] == len(found["roots"]) == runs, name
    for api in ("responses", "chat"):
        assert scenes[f"{api}:in_a_group"]["sessions"] == ["group-7"]
        assert scenes[f"{api}:in_a_session"]["sessions"] == ["mine"]
        assert scenes[f"{api}:in_a_session"]["roots"] == ["invoke_workflow support"]
        assert scenes[f"{api}:under_one_trace"]["roots"] == ["invoke_workflow two runs"]
        assert len(scenes[f"{api}:many"]["sessions"]) == 200


@agents_environments
def test_openai_agents_run_ends_after_uninstrument(environment: str, store: str, reading: Read) -> None:
    printed(environment, "openai_agents_runs.py", "left", store)
    reader = reading(store)
    (session,) = reader.sessions()
    events = reader.events(session.session.session_id)
    assert session.outcome == "success"
    assert [event.event_type for event in events if isinstance(event, EventRecord)] == ["agent", "tool"]


def test_openai_agents_goes_on_in_its_session_after_an_approval() -> None:
    found = printed("openai-agents", "openai_agents_resumed.py")
    assert found["calls"] == ["thread-1", "thread-1"]
    assert {"arguments": {"eur": 1}, "result": "paid 1"} in found["tools"]


@agents_environments
def test_openai_agents_tools_have_arguments_results_and_caller(environment: str) -> None:
    scenes = run_by_agents(environment)
    for api in ("responses", "chat"):
        ((name, call, data, server),) = scenes[f"{api}:mcp_tools"]["tools"]
        assert (name, call, server) == ("add", "call_0_add", "sums")
        assert json.loads(data)["arguments"] == {"a": 1, "b": 2}
        assert "3" in str(json.loads(data)["result"])
        ran = scenes[f"{api}:parallel_tools"]["tools"]
        parallel = [[name, call, json.loads(data)["arguments"]] for name, call, data, _ in ran]
        assert parallel == GOLDEN["parallel tools"]
        assert [data for _, _, data, _ in scenes[f"{api}:content_off"]["tools"]] == ["null"]
        cities = [json.loads(data) for _, _, data, _ in scenes[f"{api}:many"]["tools"]]
        assert all(one["result"] == f"rain in {one['arguments']['city']}" for one in cities)


@agents_environments
def test_openai_agents_failures_mark_the_failed_scope(environment: str) -> None:
    for name, found in run_by_agents(environment).items():
        assert found["failed"] == GOLDEN["failed"].get(name.partition(":")[2], []), name


PEERS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("peers.json").read_text())
"""The distributions of other instrumentations: those whose span is current while the SDK works, those whose span
nobody can see from within the SDK, and those that suppress further instrumentation during a call."""
ONE_SPAN, TWO_SPANS, SUPPRESSING = PEERS.values()
EVERY = ONE_SPAN | TWO_SPANS | SUPPRESSING
Beside: TypeAlias = Callable[[str, str], Any]
in_each_order = pytest.mark.parametrize("order", ["theirs-first", "ours-first"])


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """What comes of calls beside a peer that is turned on in this order, each pair in a process of its own."""
    python = python_of("peers")
    with ScriptedProvider() as provider, OtlpReceiver() as receiver:
        stage = Stage(tmp_path_factory.mktemp("peers"), provider, receiver)

        @cache
        def play(named: str, order: str) -> Any:
            done = stage.run(python, str(APPS / "peer.py"), named, order, CALLSPAN_STORES="")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        yield play


@in_each_order
@pytest.mark.parametrize("named", ONE_SPAN)
def test_shared_span_has_the_attributes_of_both(beside: Beside, named: str, order: str) -> None:
    result = beside(named, order)
    spans = [span for span in result["spans"] if span["name"] != "app"]
    calls = result["calls"]
    assert [span["span_id"] for span in spans] == [call["span_id"] for call in calls]
    assert len(spans) == (1 if "anthropic" in named else 2)
    root = next(span for span in result["spans"] if span["name"] == "app")
    for span in spans:
        assert span["scope"] != "callspan"
        assert span["attributes"]["callspan.outcome"] == "success"
        assert span["attributes"]["llm.vendor"]
        assert span["parent_id"] == root["span_id"]
    assert {call["parent_id"] for call in calls} == {root["span_id"]}


@in_each_order
@pytest.mark.parametrize("named", TWO_SPANS)
def test_non_current_span_is_not_shared(beside: Beside, named: str, order: str) -> None:
    result = beside(named, order)
    assert len([span for span in result["spans"] if span["name"] != "app"]) == 2 * len(result["calls"])


@in_each_order
@pytest.mark.parametrize("named", SUPPRESSING)
def test_suppressed_span_keeps_the_record(beside: Beside, named: str, order: str) -> None:
    result = beside(named, order)
    assert result["calls"] == [{"span_id": None, "parent_id": None}] * (1 if "anthropic" in named else 2)
    scopes = {span["scope"] for span in result["spans"] if span["name"] != "app"}
    assert scopes == {f"logfire.{named.rpartition('_')[2]}"}


@in_each_order
@pytest.mark.parametrize("named", EVERY)
def test_warning_names_the_other_instrumentation_once(beside: Beside, named: str, order: str) -> None:
    distribution = EVERY[named]
    result = beside(named, order)
    warnings = [message for message in result["heard"] if distribution in message]
    assert len(warnings) == 1
    assert "instruments the same SDKs as callspan" in warnings[0]
    (check,) = result["doctor"]
    assert (check["name"], check["state"]) == (distribution, "warning")
    assert f"{distribution} {check['detail']}. {check['advice']}" == f"{warnings[0]}."


OTHERS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("peers_of_others.json").read_text())
"""Those of other wires' clients: how many LLM spans each of their calls has, ours too, by the order if it counts."""


@cache
def played_beside(named: str, order: str) -> Any:
    python = python_of(OTHERS[named]["environment"])
    path = os.pathsep.join((str(APPS), str(ROOT)))
    with ScriptedProvider() as provider:
        done = subprocess.run(
            [python, str(APPS / "peer_of_others.py"), named, order, provider.url],
            env=plain_environment(PYTHONPATH=path, CALLSPAN_STORES=""), capture_output=True, text=True,
            timeout=HANG_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@in_each_order
@pytest.mark.parametrize("named", OTHERS)
def test_call_of_another_client_has_the_spans_of_the_table(named: str, order: str) -> None:
    table = OTHERS[named]
    expected = table["spans"] | (table.get("spans if ours is first", {}) if order == "ours-first" else {})
    scenes = played_beside(named, order)["scenes"]
    assert {name: len(scene["spans"]) for name, scene in scenes.items()} == expected
    for name, scene in scenes.items():
        ((outcome, span_id),) = scene["calls"]
        assert outcome == "success", name
        ((text, has_usage, end),) = scene["content"]
        assert has_usage, name
        assert name == "ranking" or text, name
        assert end == ("complete" if "stream" in name else None), name
        (shared,) = [span for span in scene["spans"] if span["is_call"]]
        is_ours = len(scene["spans"]) == 2 or "distribution" not in table
        assert (shared["span_id"], shared["is_ours"]) == (span_id, is_ours), name


@in_each_order
@pytest.mark.parametrize("named", [named for named, peer in OTHERS.items() if "distribution" in peer])
def test_warning_names_the_instrumentation_of_another_client_once(named: str, order: str) -> None:
    heard = played_beside(named, order)["heard"]
    assert sum(f"{OTHERS[named]['distribution']} instruments the same SDKs" in message for message in heard) == 1
