"""The examples run offline and give the described result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ask as in_process
from tests.support.processes import ROOT, plain_environment
from tests.support.receiver import OtlpReceiver, ReceivedSpan

pytestmark = pytest.mark.usefixtures("no_settings")

EXAMPLES = ROOT / "examples"


def run(example: str, directory: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=directory,
        env=plain_environment(**env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ask(directory: Path, *arguments: str) -> Any:
    return in_process("--store", str(directory / "callspan.db"), *arguments, "--json").json


def test_quickstart_records_its_call(tmp_path: Path) -> None:
    assert run("quickstart.py", tmp_path).startswith("Paris.\n")
    (call,) = ask(tmp_path, "calls")
    assert (call["output"], call["input_tokens"], call["output_tokens"]) == ("Paris.", 14, 2)


def test_the_agent_reaches_its_goal_step_by_step(tmp_path: Path) -> None:
    assert "Reached the goal, reward +0.90" in run("agent_gridworld.py", tmp_path)
    session = ask(tmp_path, "show", "last")
    assert (session["outcome"], session["reward"]) == ("success", 0.9)
    assert [step["tools"][0]["name"] for step in session["steps"]] == ["move", "move"]
    assert session["steps"][-1]["terminated"] is True


def test_a_conversation_of_three_requests_is_one_session(tmp_path: Path) -> None:
    assert "I am sorry. (parcel 4711 is refunded)" in run("support_desk.py", tmp_path)
    (session,) = ask(tmp_path, "sessions")
    assert (session["session_id"], session["timesteps"], session["calls"]) == ("conversation-1", 3, 3)


def test_the_jaeger_example_sends_the_trace_its_page_describes(receiver: OtlpReceiver, tmp_path: Path) -> None:
    out = run("jaeger/app.py", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert f"Sent the trace to {receiver.url}" in out
    by_id = {span.span_id: span for span in receiver.spans}
    calls = [span for span in receiver.spans if span.name == "chat gpt-4.1-mini"]
    paths = {tuple(_ancestors(span, by_id)) for span in calls}
    assert paths == {(f"timestep {name}", "invoke_workflow questions", "handle request") for name in ("ask", "stream")}
    retried, streamed, refused = sorted(calls, key=lambda span: span.start_ns)
    facts = retried.attributes
    assert facts["http.request.resend_count"] == 1
    assert facts["llm.latency"]
    assert "llm.attempt" in [name for name, _ in retried.events]
    assert len(streamed.events) >= 1
    assert refused.attributes["http.response.status_code"] == 400
    assert refused.attributes["error.type"]
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "llm.completions", "session.id"):
        assert name in facts


def test_content_can_be_kept_off_the_spans(receiver: OtlpReceiver, tmp_path: Path) -> None:
    run("jaeger/app.py", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, CALLSPAN_CONTENT="metadata")
    assert receiver.spans
    assert not any(b"Loire" in body for body in receiver.raw)


def _ancestors(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> list[str]:
    above = by_id.get(span.parent_id or "")
    return [] if above is None else [above.name, *_ancestors(above, by_id)]
