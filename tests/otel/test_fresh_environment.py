"""A new environment with `callspan[otlp,openai,anthropic]` from a wheel, and nothing else: what users begin with.

The other tests run in an environment that has everything; what is missing from the package or its extras shows here.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.otel.launching import APPS, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(APPS / "script.py")
EXTRAS = "otlp,openai,anthropic"


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the environment's commands; made once, whatever processes the tests are spread over."""
    base = tmp_path_factory.getbasetemp()
    return _environment(base, "fresh-environment", f"{ROOT}[{EXTRAS}]")


@pytest.fixture(scope="session")
def base_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without any extra."""
    return _environment(tmp_path_factory.getbasetemp(), "base-environment", str(ROOT))


def _environment(base: Path, name: str, package: str) -> Path:
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            _make(place, package)
            (place / "complete").touch()
    return place / "bin"


def _make(place: Path, package: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    installed = subprocess.run(
        [str(place / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode:
        missing = f"nothing could be installed: {installed.stderr[-2000:]}"
        if os.environ.get("CALLSPAN_REQUIRE_ENGINES"):
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def stage(stage: Stage, fresh: Path) -> Stage:
    """The stage, in the new environment."""
    stage.environment["PATH"] = f"{fresh}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return stage


def instrumented(stage: Stage, fresh: Path, *command: str, **environment: str) -> str:
    """Run a command under `opentelemetry-instrument`; what it said on standard error."""
    done = stage.run(str(fresh / "opentelemetry-instrument"), *command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_there_is_nothing_but_what_the_extras_bring(fresh: Path) -> None:
    code = "import callspan; print(callspan.__file__); import click"
    done = subprocess.run([str(fresh / "python"), "-c", code], capture_output=True, text=True, check=False)
    assert str(fresh.parent) in done.stdout, "installed, not found beside this test"
    assert "No module named 'click'" in done.stderr


def test_an_unchanged_script_sends_its_spans_and_keeps_its_records(stage: Stage, fresh: Path) -> None:
    said = instrumented(stage, fresh, "python", SCRIPT, "2")
    assert len(stage.spans) == len(stage.calls()) == 4
    assert {span.attributes["gen_ai.provider.name"] for span in stage.spans} == {"anthropic", "openai"}
    assert not said


def test_the_distributions_default_protocol_has_its_exporter(stage: Stage, fresh: Path) -> None:
    del stage.environment["OTEL_EXPORTER_OTLP_PROTOCOL"]
    instrumented(
        stage, fresh, "python", SCRIPT, "1", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{stage.receiver.serve_grpc()}"
    )
    assert len(stage.spans) == 2


def test_without_stores_there_are_spans_and_no_file(stage: Stage, fresh: Path) -> None:
    del stage.environment["CALLSPAN_STORES"]
    instrumented(stage, fresh, "python", SCRIPT, "1")
    assert len(stage.spans) == 2
    assert not list(stage.place.iterdir())


def test_a_module_run_by_its_name(stage: Stage, fresh: Path) -> None:
    instrumented(stage, fresh, "python", "-m", "script", "1")
    assert len(stage.spans) == len(stage.calls()) == 2


@pytest.mark.parametrize("ending", ["late-instrumentation", "import-first"])
def test_an_application_that_imports_the_sdk_before_or_after(stage: Stage, fresh: Path, ending: str) -> None:
    if ending == "import-first":
        run = f"sys.argv[1:] = ['1']; runpy.run_path({SCRIPT!r}, run_name='__main__')"
        code = f"import anthropic, openai, runpy, sys; {run}"
        instrumented(stage, fresh, "python", "-c", code)
    else:
        done = stage.run(str(fresh / "python"), SCRIPT, "1", ending, OTEL_TRACES_EXPORTER="otlp")
        assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2


@pytest.mark.parametrize(
    ("name", "value", "providers"),
    [
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "callspan-openai", {"anthropic"}),
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "callspan-openai,callspan-anthropic", set()),
        ("OTEL_SDK_DISABLED", "true", set()),
    ],
)
def test_switches_that_turn_it_off(stage: Stage, fresh: Path, name: str, value: str, providers: set[str]) -> None:
    instrumented(stage, fresh, "python", SCRIPT, "1", **{name: value})
    assert {call.provider for call in stage.calls()} == providers
    assert {span.attributes["gen_ai.provider.name"] for span in stage.spans if span.scope == "callspan"} == providers


def test_the_exporter_is_found_by_its_name(stage: Stage, fresh: Path) -> None:
    instrumented(stage, fresh, "python", SCRIPT, "1", OTEL_TRACES_EXPORTER="otlp,callspan")
    assert len(stage.spans) == len(stage.calls()) == 2


def test_an_application_runs_with_nothing_but_the_base_installation(base_only: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('started')")
    done = subprocess.run(
        [str(base_only / "callspan"), "run", "app.py"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert done.stderr == "callspan: nothing was recorded: the application imported neither openai nor anthropic\n"


def test_an_unchanged_script_is_recorded_by_run_without_click(stage: Stage, fresh: Path) -> None:
    done = stage.run(str(fresh / "callspan"), "run", SCRIPT, "1")
    assert done.returncode == 0, done.stderr
    assert len(stage.spans) == len(stage.calls()) == 2
    assert done.stderr.startswith("callspan: recorded to ")


def test_the_command_says_what_it_needs(fresh: Path) -> None:
    """`callspan` is there without its own extra, and says how to get it."""
    done = subprocess.run([str(fresh / "callspan"), "calls"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "callspan[cli]" in done.stderr
    assert "Traceback" not in done.stderr
