"""A real backend: the demo's traces sent to Phoenix by OTLP and read back through its API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.demo import DEMO_SPANS, SPOKEN
from tests.support.launching import BIN, answers, free_port, python_of, running

pytestmark = [pytest.mark.timeout(300)]


class Phoenix:
    """The address of a running Phoenix."""

    def __init__(self, url: str) -> None:
        self.url = url

    def spans(self, wanted: int) -> list[dict[str, Any]]:
        """All spans, as soon as there are so many."""
        deadline = time.monotonic() + 20
        while len(found := self._data("spans?limit=500")) < wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions."""
        return self._data("sessions")

    def _data(self, path: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/v1/projects/default/{path}", timeout=10) as response:
            found: list[dict[str, Any]] = json.load(response)["data"]
        return found


@pytest.fixture(scope="module", params=["exporter", "send"])
def way(request: pytest.FixtureRequest) -> str:
    """How spans are sent: each to a Phoenix of its own."""
    return str(request.param)


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory, way: str) -> Iterator[Phoenix]:
    del way
    place, port = tmp_path_factory.mktemp("phoenix"), free_port()
    python = Path(python_of("backend"))
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PHOENIX_WORKING_DIR": str(place),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    command = [str(python.with_name("phoenix")), "serve"]
    with running(command, place / "phoenix.log", lambda: answers(f"{url}/healthz"), environment):
        yield Phoenix(url)


@pytest.fixture(scope="module")
def spans(phoenix: Phoenix, tmp_path_factory: pytest.TempPathFactory, way: str) -> list[dict[str, Any]]:
    """The spans of one run of the demo."""
    place = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "OTEL_METRICS_EXPORTER": "none"}  # Phoenix takes spans only
    if way == "exporter":
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = phoenix.url
    for command in [["demo"]] if way == "exporter" else [["demo"], ["send", "--otlp", phoenix.url]]:
        done = subprocess.run(
            [str(BIN / "callspan"), "--store", f"sqlite:///{place / 'calls.db'}", *command],
            cwd=place, capture_output=True, text=True, timeout=120, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return [span for span in phoenix.spans(DEMO_SPANS) if span["name"] not in SPOKEN]


def llm(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [span for span in spans if span["span_kind"] == "LLM"]


def test_every_span_is_there_with_its_kind(spans: list[dict[str, Any]]) -> None:
    kinds = Counter(span["span_kind"] for span in spans)
    print(f"Phoenix: {dict(kinds)}", file=sys.stderr)
    assert kinds == {"LLM": 39, "TOOL": 8, "CHAIN": 53}


def test_calls_and_tools_lie_under_timesteps_and_these_under_sessions(spans: list[dict[str, Any]]) -> None:
    by_id = {span["context"]["span_id"]: span for span in spans}
    above = {
        (span["name"].split()[0], by_id[span["parent_id"]]["name"].split()[0]) for span in spans if span["parent_id"]
    }
    assert above == {("chat", "timestep"), ("execute_tool", "timestep"), ("timestep", "invoke_workflow")}
    assert {span["name"] for span in spans if not span["parent_id"]} == {"invoke_workflow gridworld"}


def test_models_tokens_and_messages_are_understood(spans: list[dict[str, Any]]) -> None:
    calls = llm(spans)
    assert {span["attributes"]["llm.model_name"] for span in calls} == {
        "gpt-5-mini",
        "gpt-4.1-mini",
        "claude-haiku-4-5",
        "my-policy-4b",
    }
    finished = [span for span in calls if span["status_code"] != "ERROR"]
    for span in finished:
        attributes = span["attributes"]
        assert attributes["llm.token_count.prompt"] > 0
        assert attributes["llm.token_count.completion"] > 0
        assert attributes["llm.input_messages.0.message.role"] in ("system", "user", "tool")
    called = [name for span in finished for name in span["attributes"] if name.endswith("tool_call.function.name")]
    assert called
    cached = [span["attributes"].get("llm.token_count.prompt_details.cache_read", 0) for span in finished]
    assert sum(cached) > 0


def test_sessions_are_grouped(spans: list[dict[str, Any]], phoenix: Phoenix) -> None:
    named = {span["attributes"].get("session.id") for span in spans}
    assert None not in named
    assert {session["session_id"] for session in phoenix.sessions()} == named


def test_the_refused_call_is_an_error_and_the_stopped_stream_is_none(spans: list[dict[str, Any]]) -> None:
    (refused,) = [span for span in llm(spans) if span["status_code"] == "ERROR"]
    assert "max_tokens" in refused["status_message"]
    assert "exception" in {event["name"] for event in refused["events"]}
    stopped = [span for span in llm(spans) if span["attributes"].get("callspan.outcome") == "cancelled"]
    assert [span["status_code"] for span in stopped] == ["UNSET"]
