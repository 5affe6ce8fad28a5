"""`opentelemetry-instrument` and `callspan run` around unchanged scripts: spans sent, records kept."""

from __future__ import annotations

import signal

import pytest

from tests.otel.launching import APPS, Stage

SCRIPT = str(APPS / "script.py")


def test_a_plain_script_sends_one_span_and_keeps_one_record_per_call(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 4
    calls = stage.calls()
    assert {call.span_id for call in calls} == {span.span_id for span in stage.spans}
    assert sorted(call.provider for call in calls) == ["anthropic", "anthropic", "openai", "openai"]
    assert not done.stderr


@pytest.mark.parametrize(
    ("name", "value", "providers"),
    [
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "callspan-openai", {"anthropic"}),
        ("OTEL_SDK_DISABLED", "true", set()),
        ("CALLSPAN_ENABLED", "false", set()),
    ],
)
def test_switches_that_turn_it_off_are_honoured(stage: Stage, name: str, value: str, providers: set[str]) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", **{name: value})
    assert done.returncode == 0, done.stderr
    assert {call.provider for call in stage.calls()} == providers
    assert {span.attributes["gen_ai.provider.name"] for span in stage.spans} == providers


def test_suppressed_code_makes_records_and_no_spans(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", "suppressed")
    assert done.returncode == 0, done.stderr
    assert len(stage.provider.requests) == 1
    assert not stage.spans
    assert [(call.outcome, call.span_id) for call in stage.calls()] == [("success", None)]


def test_sigterm_that_the_application_handles_loses_nothing(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", "graceful-sigterm")
    assert done.returncode == 143
    assert len(stage.spans) == len(stage.calls()) == 1


def test_sigterm_without_a_handler_loses_nothing_and_still_ends_the_process(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2", "sigterm")
    assert done.returncode == -signal.SIGTERM
    assert len(stage.spans) == len(stage.calls()) == 2


def test_records_survive_kill_9(stage: Stage) -> None:
    """Spans of the last seconds do not: they are in the memory of OpenTelemetry's batches."""
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2", "sigkill")
    assert done.returncode == -signal.SIGKILL
    assert len(stage.calls()) == 2


@pytest.mark.parametrize("how", ["fork", "spawn", "os-fork"])
def test_forked_workers_send_their_spans_and_keep_their_records(stage: Stage, how: str) -> None:
    done = stage.run("opentelemetry-instrument", "python", str(APPS / "forked.py"), "3", how)
    assert done.returncode == 0, done.stderr
    assert len(stage.calls()) == 4
    assert len(stage.receiver.wait_for(4)) == 4
    assert len({span.span_id for span in stage.spans}) == 4
