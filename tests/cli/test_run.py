"""`callspan run` and the instrumentors: an application runs as without callspan, and is recorded."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan import AnthropicInstrumentor, OpenAIInstrumentor
from callspan.testing import ScriptedProvider
from tests.support.calls import QUESTION
from tests.support.commands import Answer, in_its_own
from tests.support.commands import ask as in_process

ASKING = """
import openai
from callspan.testing import ScriptedProvider

def ask(text="Hello?"):
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="gpt-5", messages=messages).choices[0].message.content
"""
APPLICATION = """
import asking, sys
print(asking.ask(), sys.argv[1:], __name__)
sys.exit(7)
"""
RECORDING = (
    "callspan: recording to sqlite:///callspan.db; to see it: callspan calls; if nothing is there: callspan doctor\n"
)
OTHER = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import asking; asking.ask()'], check=True)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "asking.py").write_text(ASKING)
    return tmp_path


def run(place: Path, *arguments: str, program: str = APPLICATION, **env: str) -> Answer:
    """Run a program as `app.py`, or as the arguments say."""
    (place / "app.py").write_text(program)
    return in_its_own("run", *(arguments or ("app.py",)), cwd=place, env=env)


def calls(place: Path, *, store: str = "callspan.db") -> list[dict[str, Any]]:
    url = str(place / store)
    # A busy machine may not deliver everything in the time an ending process takes for it.
    assert in_process("--store", url, "ship").code == 0
    answer = in_process("--store", url, "calls", "--reverse", "--json")
    assert answer.code == 0
    found: list[dict[str, Any]] = answer.json
    return found


@pytest.mark.parametrize("start", [["app.py"], ["-m", "app"]], ids=["script", "module"])
def test_arguments_output_and_exit_code_are_the_applications_own(place: Path, start: list[str]) -> None:
    answer = run(place, *start, "one", "--json", "--store", "-x", "--", "two words")
    assert (
        answer.out
        == "Hello from the scripted provider. ['one', '--json', '--store', '-x', '--', 'two words'] __main__\n"
    )
    assert (answer.code, answer.err) == (7, RECORDING)
    (call,) = calls(place)
    assert (call["model"], call["outcome"], call["output"]) == ("gpt-5", "success", "Hello from the scripted provider.")


def test_an_exception_ends_it_as_python_does(place: Path) -> None:
    answer = run(place, program="import asking\nasking.ask()\nraise ValueError('mine')\n")
    assert answer.code == 1
    assert answer.err.startswith(f"{RECORDING}Traceback (most recent call last):\n  File")
    assert answer.err.endswith("ValueError: mine\n")
    assert answer.err.count("callspan") == RECORDING.count("callspan")
    assert len(calls(place)) == 1


def test_processes_the_application_starts_are_recorded_too(place: Path) -> None:
    assert run(place, program=OTHER) == (0, "", RECORDING)
    assert len(calls(place)) == 1


def test_a_command_of_the_path_is_run(place: Path) -> None:
    assert run(place, Path(sys.executable).name, "app.py", PATH=str(Path(sys.executable).parent)).code == 7
    assert len(calls(place)) == 1


def test_settings_of_the_environment_apply(place: Path) -> None:
    assert run(place, CALLSPAN_CONTENT="off").code == 7
    (call,) = calls(place)
    assert call["output"] is None
    assert call["output_tokens"] is not None


@pytest.mark.parametrize(
    ("store", "command"),
    [
        ("sqlite:///a b.db", "callspan --store 'sqlite:///a b.db' "),
        ("new/calls.db,a.jsonl", "callspan --store new/calls.db,a.jsonl "),
        ("postgresql://u:secret@127.0.0.1:1/db", "callspan --store postgresql://127.0.0.1:1/db "),
    ],
)
def test_a_line_says_first_where_the_records_go(place: Path, store: str, command: str) -> None:
    answer = run(place, "--store", store, "app.py", program="import sys; print('mine', file=sys.stderr)")
    name = shlex.split(command)[-1]
    line = f"callspan: recording to {name}; to see it: {command}calls; if nothing is there: {command}doctor\n"
    assert answer == (0, "", f"{line}mine\n")


def test_ctrl_c_ends_it_as_python_does(place: Path) -> None:
    catch = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    answer = run(place, program=f"{catch}signal.raise_signal(signal.SIGINT)")
    assert answer.code == -signal.SIGINT
    assert answer.err.endswith("KeyboardInterrupt\n")


KINDS = {"openai": OpenAIInstrumentor, "anthropic": AnthropicInstrumentor}


@pytest.mark.parametrize("sdk", KINDS)
def test_an_instrumentor_sees_its_own_sdk_and_no_other(sdk: str, provider: ScriptedProvider) -> None:
    """Instrumented twice it is instrumented once; uninstrumented it sees nothing."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = KINDS[sdk]()

    def calls() -> None:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
            claude.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)

    instrumentor.instrument(tracer_provider=own)
    instrumentor.instrument(tracer_provider=own)
    try:
        calls()
    finally:
        instrumentor.uninstrument()
    calls()
    assert [(span.attributes or {})["llm.vendor"] for span in exporter.get_finished_spans()] == [sdk]
    assert any(sdk in requirement for requirement in instrumentor.instrumentation_dependencies())
