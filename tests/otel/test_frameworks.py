"""Frameworks on top of the SDKs, run for real in environments of their own."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.otel.environments import python_of
from tests.otel.launching import APPS

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


def test_strands_ends_no_span_of_a_stream_that_is_left_and_each_call_has_one(tmp_path: Path) -> None:
    """Read to its end, its own span is exported; left early, or cancelled, ours with the ids of the record."""
    python = python_of(".venv-frameworks/strands", "python tools/environments.py frameworks")
    done = subprocess.run(
        [python, str(APPS / "frameworks" / "strands_sdk.py")],
        capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])
    spans, records = dict(found["spans"]), found["records"]
    assert len(found["spans"]) == len(spans) == 3
    assert spans.keys() == records.keys()
    ends = sorted((spans[span_id], outcome) for span_id, outcome in records.items())
    assert ends == [("callspan", "cancelled"), ("callspan", "cancelled"), ("strands.telemetry.tracer", "success")]
