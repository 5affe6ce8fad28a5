"""`opentelemetry-instrument` and `callspan run` around unchanged scripts: spans sent, records kept."""

from __future__ import annotations

import random
import signal
import tempfile

import pytest
from tests.support.launching import APPS, Stage

SCRIPT = str(APPS / "calling.py")


def test_plain_script_sends_one_span_and_one_record_per_call(stage: Stage) -> None:
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
def test_disabling_switches_are_honoured(stage: Stage, name: str, value: str, providers: set[str]) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", **{name: value})
    assert done.returncode == 0, done.stderr
    assert {call.provider for call in stage.calls()} == providers
    assert {span.attributes["gen_ai.provider.name"] for span in stage.spans} == providers


@pytest.mark.parametrize(
    ("ending", "code", "spans"),
    [("graceful-sigterm", 143, 2), ("sigterm", -signal.SIGTERM, 2), ("sigkill", -signal.SIGKILL, 0)],
)
def test_no_record_is_lost_on_any_process_end(stage: Stage, ending: str, code: int, spans: int) -> None:
    """After `kill -9` spans of the last seconds are: they are in the memory of OpenTelemetry's batches."""
    late = {"OTEL_BSP_SCHEDULE_DELAY": "60000"}  # also on a slow machine nothing is sent before the end
    assert stage.run("opentelemetry-instrument", "python", SCRIPT, "2", ending, **late).returncode == code
    assert len(stage.calls()) == 2
    assert len(stage.spans) == spans


@pytest.mark.parametrize("how", ["fork", "spawn", "os-fork"])
def test_forked_workers_send_their_spans_and_keep_their_records(stage: Stage, how: str) -> None:
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "3", how)
    assert done.returncode == 0, done.stderr
    assert len(stage.calls()) == 4
    assert len(stage.receiver.wait_for(4)) == 4
    assert len({span.span_id for span in stage.spans}) == 4


ALONE = """
import multiprocessing, sys

def ask(text):
    import callspan, calling
    callspan.instrument(otlp=True)
    return calling.ask(text)

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        pool.map(ask, ["Hi", "Bye"])
        pool.close()
        pool.join()
"""


@pytest.mark.parametrize("how", ["fork", "forkserver", "spawn"])
def test_workers_that_import_callspan_send_their_spans(stage: Stage, how: str) -> None:
    if how == "forkserver" and len(tempfile.gettempdir()) > 70:
        pytest.skip("TMPDIR is too long for the socket of the fork server")
    (stage.place / "alone.py").write_text(ALONE)
    done = stage.run("python", "alone.py", how)
    assert (done.returncode, done.stderr) == (0, "")
    assert (len(stage.spans), len(stage.calls())) == (2, 2)


def test_id_generator_of_auto_instrumentation_leaves_random_numbers(stage: Stage) -> None:
    (stage.place / "shop.py").write_text(
        "import random\nfrom posting import ask\nrandom.seed(7); ask('Hi'); print(random.random())"
    )
    for _ in range(2):
        done = stage.run("opentelemetry-instrument", "python", "shop.py", OTEL_PYTHON_ID_GENERATOR="callspan")
        assert done.stdout == f"{random.Random(7).random()}\n", done.stderr
    assert len({span.trace_id for span in stage.spans}) == len(stage.spans) == 2


@pytest.mark.parametrize(
    ("exporter", "enabled", "warnings"), [("otlp,callspan", "on", 1), ("otlp", "on", 0), ("callspan", "off", 0)]
)
def test_exporter_that_nobody_makes_is_said_once(stage: Stage, exporter: str, enabled: str, warnings: int) -> None:
    """Without the distribution of OpenTelemetry nothing sets up a provider."""
    none = {"OTEL_PYTHON_CONFIGURATOR": "none", "OTEL_TRACES_EXPORTER": exporter, "CALLSPAN_ENABLED": enabled}
    done = stage.run("opentelemetry-instrument", "python", SCRIPT, "1", **none)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('pip install "callspan[otlp]"') == warnings
