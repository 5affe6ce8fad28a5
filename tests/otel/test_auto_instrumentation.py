"""`opentelemetry-instrument` and `callspan run` around unchanged scripts: spans sent, records kept."""

from __future__ import annotations

import signal

import pytest

from tests.otel.launching import APPS, Stage, free_port

SCRIPT = str(APPS / "script.py")


def test_a_plain_script_sends_one_span_and_keeps_one_record_per_call(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 4
    calls = stage.calls()
    assert {call.span_id for call in calls} == {span.span_id for span in stage.spans}
    assert sorted(call.provider for call in calls) == ["anthropic", "anthropic", "openai", "openai"]
    assert not done.stderr


def test_opentelemetrys_default_protocol_works_without_a_setting(stage: Stage) -> None:
    """The distribution's default is gRPC; `callspan[otlp]` brings its exporter."""
    del stage.environment["OTEL_EXPORTER_OTLP_PROTOCOL"]
    endpoint = f"http://{stage.receiver.serve_grpc()}"
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == 2


def test_a_module_run_by_its_name(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", "-m", "script", "1")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2


def test_an_application_that_imports_the_sdk_before_it_is_instrumented(stage: Stage) -> None:
    done = stage.run("python", SCRIPT, "1", "late-instrumentation", OTEL_TRACES_EXPORTER="otlp")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2


def test_exporting_to_callspan_keeps_records_without_doubles_beside_stores_of_the_environment(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", OTEL_TRACES_EXPORTER="otlp,callspan")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2


def test_exporting_to_callspan_alone_keeps_records_in_its_default_store(stage: Stage) -> None:
    del stage.environment["CALLSPAN_STORES"]
    stage.store = f"sqlite:///{stage.place / 'callspan.db'}"
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", OTEL_TRACES_EXPORTER="callspan")
    assert done.returncode == 0, done.stderr
    assert (stage.place / "callspan.db").exists()
    (stage.place / "callspan.db").rename(stage.place / "calls.db")
    stage.store = f"sqlite:///{stage.place / 'calls.db'}"
    assert len(stage.calls()) == 2
    assert not stage.spans


@pytest.mark.parametrize(
    ("name", "value", "providers"),
    [
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "callspan-openai", {"anthropic"}),
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "callspan-openai,callspan-anthropic", set()),
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
    assert len(stage.provider.requests) == 2
    assert not stage.spans
    assert [(call.outcome, call.span_id) for call in stage.calls()] == [("success", None)] * 2


def test_an_invalid_setting_causes_a_warning_and_the_application_starts(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", CALLSPAN_CONTENT="off", CALLSPAN_FSYNC="banana")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CALLSPAN_FSYNC='banana'") == 1, done.stderr
    assert len(stage.spans) == 2
    assert not [span for span in stage.spans if "gen_ai.input.messages" in span.attributes]


def test_sigterm_that_the_application_handles_loses_nothing(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", "graceful-sigterm")
    assert done.returncode == 143
    assert len(stage.spans) == len(stage.calls()) == 2


def test_sigterm_without_a_handler_loses_nothing_and_still_ends_the_process(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2", "sigterm")
    assert done.returncode == -signal.SIGTERM
    assert len(stage.spans) == len(stage.calls()) == 4


def test_sigterm_is_not_handled_if_disabled_by_the_settings(stage: Stage) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", "sigterm", CALLSPAN_FLUSH_ON_SIGTERM="off")
    assert done.returncode == -signal.SIGTERM
    assert not stage.spans
    assert len(stage.calls()) == 2


def test_records_survive_kill_9(stage: Stage) -> None:
    """Spans of the last seconds do not: they are in the memory of OpenTelemetry's batches."""
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "2", "sigkill")
    assert done.returncode == -signal.SIGKILL
    assert len(stage.calls()) == 4


@pytest.mark.parametrize("how", ["fork", "spawn", "os-fork"])
def test_forked_workers_send_their_spans_and_keep_their_records(stage: Stage, how: str) -> None:
    done = stage.run("opentelemetry-instrument", "python", str(APPS / "forked.py"), "6", how)
    assert done.returncode == 0, done.stderr
    assert len(stage.calls()) == 7
    assert len(stage.receiver.wait_for(7)) == 7
    assert len({span.span_id for span in stage.spans}) == 7


def test_callspan_run_needs_no_configuration(stage: Stage) -> None:
    done = stage.run("callspan", "--store", stage.store, "run", SCRIPT, "2")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 4


def test_metrics_and_log_events_arrive_as_the_process_ends(stage: Stage) -> None:
    done = stage.run(
        "opentelemetry-instrument", "python", SCRIPT, "2",
        OTEL_METRICS_EXPORTER="otlp", OTEL_LOGS_EXPORTER="otlp", CALLSPAN_LOG_EVENTS="on",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {metric.name for metric in stage.receiver.metrics}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "callspan.client.in_flight"} <= names
    events = [name for name, _, _ in stage.receiver.logs]
    assert events.count("gen_ai.client.inference.operation.details") == 4


def test_a_receiver_that_is_not_there_costs_no_call_and_no_record(stage: Stage) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    done = stage.run(
        "opentelemetry-instrument", "python", SCRIPT, "1",
        OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(stage.provider.requests) == len(stage.calls()) == 2
