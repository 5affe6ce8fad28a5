"""Frameworks on top of the SDKs, run for real in environments of their own."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import callspan
from callspan.records import EventRecord
from tests.otel.launching import APPS, python_of

pytestmark = [pytest.mark.timeout(300)]

FRAMEWORKS = {
    "openai-agents": "openai_agents_sdk.py",
    "langchain": "langchain_sdk.py",
    "litellm": "litellm_sdk.py",
    "instructor": "instructor_sdk.py",
    "pydantic-ai": "pydantic_ai_sdk.py",
    "langgraph": "langgraph_graphs.py",
    "crewai": "crewai_crews.py",
    "smolagents": "smolagents_sdk.py",
    "agno": "agno_sdk.py",
    "llama-index": "llama_index_sdk.py",
    "dspy": "dspy_modules.py",
    "strands": "strands_agents.py",
}
OWN_TRACING = ("pydantic-ai", "strands")
"""Frameworks with OpenTelemetry spans of their own, which are above ours."""


@cache
def played(framework: str, switch: str) -> Any:
    """What came of every scene of a framework with callspan on or off."""
    python = python_of(f".venv-frameworks/{framework}", "python tools/environments.py frameworks")
    script = APPS / "frameworks" / FRAMEWORKS[framework]
    done = subprocess.run([python, str(script), switch], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_results_and_requests_are_the_same_with_callspan_on_and_off(framework: str) -> None:
    on, off = played(framework, "on")["scenes"], played(framework, "off")["scenes"]
    assert {name: (scene["result"], scene["wire"]) for name, scene in on.items()} == {
        name: (scene["result"], scene["wire"]) for name, scene in off.items()
    }
    assert not any(scene["spans"] for scene in off.values())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_wire_call_has_one_record_and_one_span_under_the_callers(framework: str) -> None:
    scenes = played(framework, "on")["scenes"]
    kinds = {part for name in scenes for part in name.split(":")}
    assert {"tools", "structured"} & kinds
    assert "two" in kinds
    for name, scene in scenes.items():
        calls = len(scene["wire"])
        found = scene["spans"], scene["llm_spans"], scene["records"], scene["under_caller"]
        assert found == (calls, calls, calls, calls), name


@pytest.mark.parametrize("framework", OWN_TRACING)
def test_spans_of_the_frameworks_agents_are_above_ours(framework: str) -> None:
    scenes = played(framework, "on")["scenes"]
    traced = [scene["parents"] for name, scene in scenes.items() if "traced" in name]
    assert traced
    assert all(any(name.startswith("invoke_agent") for name in parents) for parents in traced)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_is_warned_of(framework: str) -> None:
    assert played(framework, "on")["heard"] == []


def test_strands_ends_no_span_of_a_stream_that_is_left_and_each_call_has_a_record(tmp_path: Path) -> None:
    """Its own span is exported where the stream is read to its end; the record has the span's id in each case."""
    python = python_of(".venv-frameworks/strands", "python tools/environments.py frameworks")
    done = subprocess.run(
        [python, str(APPS / "frameworks" / "strands_sdk.py")],
        capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    ((span_id, scope),), records = found["spans"], found["records"]
    assert scope == "strands.telemetry.tracer"
    assert (records.pop(span_id), *records.values()) == ("success", "cancelled", "cancelled")


def voice_of_agents(app: str) -> tuple[Any, Any]:
    """What came of an application of openai-agents with callspan on and off."""
    python = python_of(".venv-frameworks/openai-agents", "python tools/environments.py frameworks")
    script, found = APPS / "frameworks" / app, {}
    for switch in ("on", "off"):
        done = subprocess.run([python, str(script), switch], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        found[switch] = json.loads(line[7:])
    return found["on"], found["off"]


def test_a_realtime_session_of_openai_agents_is_recorded_at_its_own_websocket() -> None:
    on, off = voice_of_agents("openai_agents_realtime.py")
    calls, spans = on.pop("calls"), on.pop("spans")
    assert on == off
    assert calls == [
        ["transcriptions", "success", "How is the weather?", [], "voice"],
        ["realtime", "success", None, ["weather"], "voice"],
        ["realtime", "success", "It rains.", [], "voice"],
    ]
    assert spans.count("chat gpt-realtime") == 2
    assert spans.count("generate_content gpt-4o-transcribe") == 1


def test_each_call_of_a_voice_pipeline_of_openai_agents_is_recorded_once_with_its_usage() -> None:
    on, off = voice_of_agents("openai_agents_voice.py")
    answered = ["responses", "success", "gpt-5", "It rains.", [12, None, 7]]
    spoken = ["speech", "success", "gpt-4o-mini-tts", None, None]  # as bytes, which state no usage

    def heard(text: str, *usage: int) -> list[Any]:
        return ["transcriptions", "success", "gpt-4o-transcribe", text, [*usage]]

    calls = {
        "file": [answered, spoken, heard("It rains.", 12, 12, 7)],
        "stream": [*[answered] * 2, *[spoken] * 2, heard("Question 1?", 20, 18, 5), heard("Question 2?", 20, 18, 5)],
    }
    for name, expected in calls.items():
        assert on[name].pop("calls") == expected
        assert on[name].pop("sessions") == 1
        spans = on[name].pop("spans")
        assert [span for span in spans if span.startswith("invoke_workflow")] == ["invoke_workflow Voice Agent"]
        assert sum(span.startswith(("chat", "generate_content")) for span in spans) == len(expected)
        assert len(off[name]["wire"]) + off[name]["received"].count("input_audio_buffer.append") == len(expected)
    assert on == off


@cache
def run_by_agents(environment: str) -> Any:
    """What came of every scene of openai-agents with its tracing on, by API and scene."""
    python = python_of(f".venv-frameworks/{environment}", "python tools/environments.py frameworks")
    script = APPS / "frameworks" / "openai_agents_runs.py"
    done = subprocess.run([python, str(script)], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


agents_environments = pytest.mark.parametrize("environment", ["openai-agents", "openai-agents-oldest"])


@agents_environments
def test_agents_tools_handoffs_and_guardrails_of_openai_agents_are_nested_as_its_own_spans(environment: str) -> None:
    """Its own spans are read by a processor of its own, by their ids."""
    for name, found in run_by_agents(environment).items():
        assert found["ours"] == found["theirs"], name
        assert found["records"] == len(found["calls"]), name
        assert found["asked"] == len(found["calls"]) or name.endswith("tripwire"), "it may cancel a call that waits"


@agents_environments
def test_a_run_of_openai_agents_is_one_trace_and_one_session(environment: str) -> None:
    scenes = run_by_agents(environment)
    for name, found in scenes.items():
        runs = {"in_a_group": 2, "in_threads": 3, "many": 200}.get(name.partition(":")[2], 1)
        assert found["traces"] == len(found["roots"]) == runs, name
    for api in ("responses", "chat"):
        assert scenes[f"{api}:in_a_group"]["sessions"] == ["group-7"]
        assert scenes[f"{api}:in_a_session"]["sessions"] == ["mine"]
        assert scenes[f"{api}:in_a_session"]["roots"] == ["invoke_workflow support"]
        assert scenes[f"{api}:under_one_trace"]["roots"] == ["invoke_workflow two runs"]
        assert len(scenes[f"{api}:many"]["sessions"]) == 200


@agents_environments
def test_a_run_of_openai_agents_ends_also_where_a_tool_switches_callspan_off(environment: str, tmp_path: Path) -> None:
    python = python_of(f".venv-frameworks/{environment}", "python tools/environments.py frameworks")
    script, store = APPS / "frameworks" / "openai_agents_runs.py", f"sqlite:///{tmp_path / 'calls.db'}"
    subprocess.run([python, str(script), "left", store], timeout=120, check=True)
    with closing(callspan.open_store(store, deliver=True)) as reader:
        (session,) = reader.sessions()
        events = list(reader.events(session.session.session_id))
    assert session.outcome == "success"
    assert [event.event_type for event in events if isinstance(event, EventRecord)] == ["agent", "tool"]


@agents_environments
def test_tools_of_openai_agents_have_arguments_results_and_the_call_that_asked_for_them(environment: str) -> None:
    scenes = run_by_agents(environment)
    for api in ("responses", "chat"):
        ((name, call, data, server),) = scenes[f"{api}:mcp_tools"]["tools"]
        assert (name, call, server) == ("add", "call_0_add", "sums")
        assert json.loads(data)["arguments"] == {"a": 1, "b": 2}
        assert "3" in str(json.loads(data)["result"])
        ran = scenes[f"{api}:parallel_tools"]["tools"]
        parallel = [(name, call, json.loads(data)["arguments"]) for name, call, data, _ in ran]
        assert parallel == [
            ("forgiven", "call_3_forgiven", {}),
            ("slow", "call_1_slow", {"n": 3}),
            ("slow", "call_2_slow", {"n": 1}),
            ("weather", "call_0_weather", {"city": "Oslo"}),
        ]
        assert [data for _, _, data, _ in scenes[f"{api}:content_off"]["tools"]] == ["null"]
        cities = [json.loads(data) for _, _, data, _ in scenes[f"{api}:many"]["tools"]]
        assert all(one["result"] == f"rain in {one['arguments']['city']}" for one in cities)


@agents_environments
def test_failures_of_openai_agents_mark_what_failed(environment: str) -> None:
    run, agent = "invoke_workflow Agent workflow", "invoke_agent guide"
    failed = {
        "parallel_tools": ["execute_tool forgiven"],
        "tripwire": [agent, run],
        "max_turns": [agent, run],
        "tool_error": ["execute_tool broken", agent, run],
        "cancelled": ["execute_tool slow", agent],
    }
    for name, found in run_by_agents(environment).items():
        assert found["failed"] == failed.get(name.partition(":")[2], []), name
