"""The completion hook of OpenTelemetry's GenAI utilities, called by us where they are installed."""

from __future__ import annotations

import json

from tests.otel.environments import python_of
from tests.otel.launching import Stage

HOOK = """
import json

class Hook:
    def on_completion(self, *, inputs, outputs, system_instruction, tool_definitions=None, span=None, log_record=None):
        print("HOOK " + json.dumps({
            "inputs": [[message.role, message.parts[0].content] for message in inputs],
            "outputs": [[message.role, message.parts[0].content, message.finish_reason] for message in outputs],
            "span": format(span.get_span_context().span_id, "016x"),
        }))
"""
PROGRAM = """
import callspan
from calling import ask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
callspan.instrument({settings})
print(ask("Hi"))
"""


def hook_lines(stage: Stage, settings: str = "") -> list[str]:
    python = python_of(".venv-peers", "python tools/environments.py peers")
    place = stage.place / "hook"
    (place / "hook-1.dist-info").mkdir(parents=True)
    (place / "hook.py").write_text(HOOK)
    (place / "hook-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: hook\nVersion: 1\n")
    points = "[opentelemetry_genai_completion_hook]\nmine = hook:Hook\n"
    (place / "hook-1.dist-info" / "entry_points.txt").write_text(points)
    done = stage.run(
        python, "-c", PROGRAM.format(settings=settings), OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK="mine",
        PYTHONPATH=f"{stage.environment['PYTHONPATH']}:{place}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return [line[5:] for line in done.stdout.splitlines() if line.startswith("HOOK ")]


def test_it_receives_the_messages(stage: Stage) -> None:
    stage.provider.reply(text="Hello.")
    (result,) = map(json.loads, hook_lines(stage))
    assert result["inputs"] == [["user", "Hi"]]
    assert result["outputs"] == [["assistant", "Hello.", "stop"]]
    (call,) = stage.calls()
    assert result["span"] == call.span_id


def test_the_completion_hook_is_not_called_if_content_is_off(stage: Stage) -> None:
    assert hook_lines(stage, 'content="metadata"') == []
