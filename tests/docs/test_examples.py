"""Every example of the README, its pages and `examples/` has the stated effect, alone and in the order of its page.

They run in this environment or, at full scale, in environments installed as the pages describe.
"""

from __future__ import annotations

import fcntl
import operator
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.support.commands import ask as in_process
from tests.support.launching import Stage
from tests.support.pages import EFFECTS, ROOT, Example, examples, install_lines, pages
from tests.support.processes import ran
from tests.support.provider import FullProvider
from tests.support.receiver import OtlpReceiver, ReceivedSpan
from tests.support.scale import FULL, scaled
from tools import environments, nightly

from callspan import open_store
from callspan.stores import EmptyStoreError
from callspan.testing import ScriptedProvider

_SPANS: Final = "spans.txt"
_RECEIVER: Final = "http://localhost:4318"
"""The receiver of spans named on the pages."""
_PROLOGUE: Final = f"""\
def _count_spans():
    import atexit, pathlib
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    atexit.register(lambda: pathlib.Path({_SPANS!r}).write_text(str(len(memory.get_finished_spans()))))
_count_spans()
"""
"""Counts the spans of a Python example; those of commands arrive at the receiver."""


class Seen(NamedTuple):
    """The effects of a run."""

    calls: int
    sessions: int
    spans: int
    output: str


class Workplace(Stage):
    """A directory in which examples run, with a provider and a receiver."""

    def __init__(self, place: Path, python: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> None:
        super().__init__(place, provider, receiver)
        for name in ("PYTHONPATH", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "CALLSPAN_STORES"):
            del self.environment[name]
        self.environment["PATH"] = f"{python.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        self.environment["PYTHONWARNINGS"] = "error::DeprecationWarning:__main__"
        self.store = f"sqlite:///{place / 'callspan.db'}"
        self.python = python
        self.output = ""

    def seen(self) -> Seen:
        """Return the effects so far. A short process may end before its records are in the store."""
        counted = self.place / _SPANS
        spans = len(self.receiver.spans) + (int(counted.read_text()) if counted.exists() else 0)
        calls, sessions = len(self.calls()), 0
        with suppress(EmptyStoreError), closing(open_store(self.store)) as reader:
            sessions = len(list(reader.sessions()))
        return Seen(calls, sessions, spans, self.output)

    def play(self, run: Sequence[Example]) -> None:
        """Run Python examples as one program, or the command lines of another example; a failure fails the test."""
        if run[0].kind == "python":
            code = "\n".join(example.code for example in run)
            self._run([str(self.python), "-c", _PROLOGUE + code], code)
            return
        for example in run:
            # One shell for all lines, so that `export` has an effect; the receiver replaces a local one.
            script = "\n".join(example.commands).replace(_RECEIVER, self.receiver.url)
            self._run(["/bin/bash", "-euc", script], script)

    def save(self, examples: Sequence[Example]) -> None:
        """Save the files that a page tells its readers to save."""
        for example in examples:
            if "file" in example.directives:
                (self.place / example.directives["file"]).write_text(example.code)
            if example.page.parent.parent == ROOT / "examples":
                for beside in example.page.parent.glob("*.py"):
                    shutil.copy(beside, self.place)

    def _run(self, command: list[str], shown: str) -> None:
        done = self.run(*command)
        self.output += done.stdout + done.stderr
        assert done.returncode == 0, f"{shown}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, f"{shown}\n{done.stderr}"


SDKS = ("openai", "anthropic")
BESIDE = ("callspan", "callspan[otlp]")
"""Requirements of services that already have the SDKs."""
FOR_TESTS = ("pytest", "websockets")
"""Requirements of readers who write tests with the scripted provider."""
ENVIRONMENTS = ROOT / ".venv-documents"


Workplaces = Callable[[Sequence[Example]], Workplace]


@pytest.fixture
def workplace(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workplaces]:
    """Creates the directory in which examples run, with the store of the demo if one of them needs it."""

    def made(run: Sequence[Example]) -> Workplace:
        if any(example.directives.get("store") == "demo" for example in run):
            shutil.copy(request.getfixturevalue("demo").removeprefix("sqlite:///"), tmp_path / "callspan.db")
        return Workplace(tmp_path, _python(run[-1].requirement), provider, receiver)

    with FullProvider() as provider, OtlpReceiver() as receiver:
        yield made


def _python(requirement: str) -> Path:
    if not FULL:
        return Path(sys.executable)
    # Editable, because the environment is kept and a copy would become stale.
    packages = [
        "-e",
        requirement.replace("callspan", str(ROOT), 1),
        *(SDKS if requirement in BESIDE else ()),
        *FOR_TESTS,
    ]
    place = ENVIRONMENTS / sha256(requirement.encode()).hexdigest()[:12]
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environments.make(place, packages)
    return place / "bin" / "python"


PAGES = {page: found for page in pages() if (found := examples(page))}
EXAMPLES = [example for found in PAGES.values() for example in found]
RUN = [example for example in EXAMPLES if example.reason is None]
SEVERAL = [page for page, found in PAGES.items() if sum(example.reason is None for example in found) > 1]
"""Pages with several examples. A single example is covered by running it alone."""
ALONE = [
    example
    for example in RUN
    if example.page not in SEVERAL or (FULL and (example.kind == "python" or "store" in example.directives))
]
"""Examples to run alone: of single-example pages, and at full scale all that need no earlier one."""


def test_example_states_its_effect_or_why_it_is_skipped() -> None:
    silent = [example.id for example in RUN if not example.directives.keys() & set(EFFECTS)]
    assert silent == [], "put `<!-- example: calls=1 -->` or the like above"


def test_documented_install_line_runs_with_an_example() -> None:
    stated = {line for page in pages() for line in install_lines(page)}
    assert stated == {example.requirement for example in RUN}


@pytest.mark.parametrize("example", ALONE, ids=lambda example: example.id)
def test_example_alone(example: Example, workplace: Workplaces) -> None:
    run = [*_before(example), example]
    where = workplace(run)
    where.save(PAGES[example.page])
    _check(run, where)


@pytest.mark.parametrize("page", scaled([ROOT / "README.md"], SEVERAL), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_in_order(page: Path, workplace: Workplaces) -> None:
    """Python examples that continue each other are one program, as in a reader's interpreter.

    Commands, each of which has tests of its own, are played at full scale only.
    """
    played = [example for example in PAGES[page] if example.reason is None]
    for run in _runs([example for example in played if FULL or example.kind == "python"]):
        where = workplace(run)
        where.save(run)
        _check(run, where)


def _runs(found: Sequence[Example]) -> list[list[Example]]:
    runs: list[list[Example]] = []
    for example in found:
        if example.kind != "python":
            runs.append([example])
        elif runs and "after" in example.directives and _goes_on(runs[-1][-1], example):
            runs[-1].append(example)
        else:
            runs.append([*_before(example), example])
    return runs


def _goes_on(previous: Example, example: Example) -> bool:
    return previous.kind == "python" and previous.requirement == example.requirement


def _before(example: Example) -> list[Example]:
    """The examples that an example continues, in order."""
    name = example.directives.get("after")
    if name is None or example.kind != "python":
        return []
    (previous,) = [each for each in PAGES[example.page] if each.directives.get("name") == name]
    return [*_before(previous), previous]


def _check(run: Sequence[Example], where: Workplace) -> None:
    (where.place / _SPANS).unlink(missing_ok=True)
    before = where.seen()
    where.play(run)
    after = where.seen()
    for effect in ("calls", "sessions", "spans"):
        if all(effect in example.directives for example in run):
            _check_number(effect, [example.directives[effect] for example in run], before, after)
    for example in run:
        for effect, value in example.directives.items():
            if effect == "prints":
                assert value in after.output, f"{example.id} does not print {value!r}:\n{after.output[-2000:]}"
            elif effect == "writes":
                assert (where.place / value).stat().st_size, f"{example.id} does not write {value}"


def _check_number(effect: str, stated: Sequence[str], before: Seen, after: Seen) -> None:
    made = getattr(after, effect) - getattr(before, effect)
    compare = operator.ge if any(number.endswith("+") for number in stated) else operator.eq
    expected = sum(int(number.rstrip("+")) for number in stated)
    assert compare(made, expected), f"{effect}: {made} instead of {' + '.join(stated)}"


pytestmark = pytest.mark.usefixtures("no_settings")


def output_of(example: str, directory: Path, **env: str) -> str:
    done = ran("-W", "error", str(ROOT / "examples" / example), cwd=directory, **env)
    assert done.stderr == ""
    return done.stdout


def ask(directory: Path, *arguments: str) -> Any:
    return in_process("--store", str(directory / "callspan.db"), *arguments, "--json").json


def test_quickstart_records_its_call(tmp_path: Path) -> None:
    assert output_of("quickstart.py", tmp_path).startswith("Paris.\n")
    (call,) = ask(tmp_path, "calls")
    assert (call["output"], call["input_tokens"], call["output_tokens"]) == ("Paris.", 14, 2)


def test_agent_reaches_its_goal(tmp_path: Path) -> None:
    assert "Reached the goal, reward +0.90" in output_of("agent_gridworld.py", tmp_path)
    session = ask(tmp_path, "show", "last")
    assert (session["outcome"], session["reward"]) == ("success", 0.9)
    assert [step["tools"][0]["name"] for step in session["steps"]] == ["move", "move"]
    assert session["steps"][-1]["terminated"] is True


def test_conversation_of_three_requests_is_one_session(tmp_path: Path) -> None:
    assert "I am sorry. (parcel 4711 is refunded)" in output_of("support_desk.py", tmp_path)
    (session,) = ask(tmp_path, "sessions")
    assert (session["session_id"], session["timesteps"], session["calls"]) == ("conversation-1", 3, 3)


def test_jaeger_example_sends_the_described_trace(receiver: OtlpReceiver, tmp_path: Path) -> None:
    out = output_of("jaeger/app.py", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
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


def _ancestors(span: ReceivedSpan, by_id: dict[str, ReceivedSpan]) -> list[str]:
    above = by_id.get(span.parent_id or "")
    return [] if above is None else [above.name, *_ancestors(above, by_id)]


@pytest.mark.parametrize(
    ("tests", "passes"),
    [("def test_a(): pytest.skip()", False), ("def test_a(): pytest.skip()\ndef test_b(): pass", True)],
)
def test_nightly_step_that_skips_everything_fails(
    tests: str, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of the browser on a machine without one."""
    monkeypatch.setattr(nightly, "LOGS", tmp_path)
    (tmp_path / "test_it.py").write_text(f"import pytest\n{tests}\n")
    command = [sys.executable, *nightly.PYTEST, "0", "-c", "/dev/null", str(tmp_path / "test_it.py")]
    assert nightly.run("a step", command) is passes
