"""A new environment with `callspan[otlp,openai,anthropic]` from a wheel, and nothing else: what users begin with.

The other tests run in an environment that has everything; what is missing from the package or its extras shows here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.launching import APPS, Stage
from tests.support.processes import ROOT
from tools import environments

SCRIPT = str(APPS / "calling.py")
EXTRAS = "otlp,openai,anthropic"


OncePerRun = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def fresh(once_per_run: OncePerRun) -> Path:
    """The directory of the environment's commands."""
    return once_per_run("fresh-environment", lambda place: environments.make(place, [f"{ROOT}[{EXTRAS}]"])) / "bin"


@pytest.fixture(scope="session")
def oldest(once_per_run: OncePerRun) -> Path:
    """The same with the oldest OpenTelemetry that the package allows."""
    packages = [f"{ROOT}[openai,anthropic]", *environments.lowest("dependencies")]
    return once_per_run("oldest-environment", lambda place: environments.make(place, packages)) / "bin"


@pytest.fixture
def stage(stage: Stage, fresh: Path) -> Stage:
    """The stage, in the new environment."""
    stage.environment["PATH"] = f"{fresh}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return stage


def said(command: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an environment with nothing around it."""
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False, env=environment)


def test_extras_install_only_their_packages(fresh: Path) -> None:
    code = "import callspan; print(callspan.__file__); import click"
    done = said(fresh / "python", "-c", code)
    assert str(fresh.parent) in done.stdout, "installed, not found beside this test"
    assert "No module named 'click'" in done.stderr


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (("opentelemetry-instrument", "python"), {}),
        (("opentelemetry-instrument", "python"), {"OTEL_TRACES_EXPORTER": "otlp,callspan"}),
        (("callspan", "run"), {}),
    ],
    ids=["instrumented", "the exporter by its name", "run without click"],
)
def test_unchanged_scripts_send_spans(
    stage: Stage, fresh: Path, command: tuple[str, ...], variables: dict[str, str]
) -> None:
    done = stage.run(str(fresh / command[0]), *command[1:], SCRIPT, "1", **variables)
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2
    assert {span.attributes["gen_ai.provider.name"] for span in stage.spans} == {"anthropic", "openai"}
    assert done.stderr.startswith("callspan: recording to ") if "run" in command else not done.stderr


def test_default_protocol_has_its_exporter(stage: Stage, fresh: Path) -> None:
    del stage.environment["OTEL_EXPORTER_OTLP_PROTOCOL"]
    command, address = str(fresh / "opentelemetry-instrument"), f"http://{stage.receiver.serve_grpc()}"
    done = stage.run(command, "python", SCRIPT, "1", OTEL_EXPORTER_OTLP_ENDPOINT=address)
    assert (done.returncode, len(stage.spans)) == (0, 2), done.stderr


ONE_CALL_EACH = """
from calling import ask_claude, ask_streamed
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from tests.support.telemetry import kept_spans
import callspan

provider, exporter = kept_spans()
trace.set_tracer_provider(provider)
set_logger_provider(LoggerProvider())
handle = callspan.instrument(log_events=True)
with callspan.session("s") as session, session.timestep() as step:
    ask_streamed("Hello")
    ask_claude("Hello")
    step.reward(1.0)
assert handle.force_flush(300_000)
print(*sorted(span.name for span in exporter.get_finished_spans()), sep=",")
"""


def test_calls_on_the_oldest_opentelemetry(stage: Stage, oldest: Path) -> None:
    done = stage.run(str(oldest / "python"), "-W", "error::DeprecationWarning:callspan", "-c", ONE_CALL_EACH)
    assert done.stdout == "chat claude-haiku-4-5,chat gpt-5,invoke_workflow s,timestep\n"
    assert not done.stderr, "nothing is warned of"
    assert sorted(call.provider for call in stage.calls()) == ["anthropic", "openai"]
    assert all(call.outcome == "success" and call.trace_id for call in stage.calls())


def test_command_names_its_requirements(fresh: Path) -> None:
    """`callspan` is there without its own extra, and says how to get it."""
    done = said(fresh / "callspan", "calls")
    assert done.returncode != 0
    assert "callspan[cli]" in done.stderr
    assert "Traceback" not in done.stderr
