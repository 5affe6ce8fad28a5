"""Every example of the README, its pages and `examples/` has the stated effect, alone and in the order of its page.

They run in this environment or, at full scale, in environments installed as the pages describe.
"""

from __future__ import annotations

import fcntl
import json
import operator
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml
from tests.support.commands import ask as in_process
from tests.support.launching import Stage, python_of
from tests.support.pages import EFFECTS, ROOT, Example, examples, install_lines, pages
from tests.support.processes import plain_environment, ran
from tests.support.provider import FullProvider
from tests.support.receiver import OtlpReceiver, ReceivedSpan
from tests.support.scale import FULL, scaled
from tests.support.waiting import HANG_S
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
BESIDE = {"callspan": SDKS, "callspan[otlp]": SDKS, "callspan[datasets]": ("duckdb", "polars")}
"""What is already there where a requirement is installed: the SDKs of a service, what reads a lake."""
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
        *BESIDE.get(requirement, ()),
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


def test_application_is_instrumented_by_its_environment_file(
    receiver: OtlpReceiver, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """The file names another receiver, and is otherwise as it is."""
    provider.reply(text="The Loire.")
    place = ROOT / "examples/auto_instrumentation"
    settings = (place / "callspan.env").read_text().replace(_RECEIVER, receiver.url)
    (tmp_path / "callspan.env").write_text(settings)
    script = f"set -a; . ./callspan.env; set +a; opentelemetry-instrument {sys.executable} {place / 'app.py'}"
    environment = plain_environment(OPENAI_API_KEY="scripted", OPENAI_BASE_URL=provider.openai_url)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=HANG_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "The Loire.\n"), done.stderr
    (call,) = ask(tmp_path, "calls")
    record = ask(tmp_path, "show", call["call_id"])["record"]
    assert (record["service"], record["content_level"]) == ("rivers", "metadata")
    assert "Loire" not in json.dumps(record)
    (span,) = receiver.spans
    assert span.resource["service.name"] == "rivers"
    assert "gen_ai.input.messages" not in span.attributes


def test_own_exporter_gets_what_the_redactor_leaves(tmp_path: Path) -> None:
    printed = output_of("own_pipeline.py", tmp_path)
    assert "Write to [e-mail]." in printed
    assert "mara@" not in printed + json.dumps(ask(tmp_path, "show", "last"))


def test_chat_service_keeps_conversation_user_and_rating(tmp_path: Path) -> None:
    assert "How long is it? 1,006 km." in output_of("chat_service.py", tmp_path)
    (session,) = ask(tmp_path, "sessions", "--label", "thumbs_up")
    assert (session["session_id"], session["user_id"], session["calls"]) == ("c1", "mara", 2)
    (rating,) = ask(tmp_path, "calls", "--rewards")
    assert (rating["objective"], rating["value"], rating["source"]) == ("feedback", 1.0, "human")


def test_evaluation_compares_and_exports(tmp_path: Path) -> None:
    printed = output_of("evaluate.py", tmp_path)
    assert "4 right answers in train.jsonl" in printed
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [line["messages"][-1]["content"] for line in lines].count("Rome") == 2
    (command,) = re.findall("Now: callspan (.*)", printed)
    table = in_process("--store", str(tmp_path / "callspan.db"), *command.split())
    assert table.code == 0
    assert "exact" in table.out


def test_rollouts_have_rewards_and_token_ids(tmp_path: Path) -> None:
    output_of("rl_rollouts.py", tmp_path)
    rollouts = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert {rollout["group_id"] for rollout in rollouts} == {"6 x 7"}
    assert [rollout["reward"] for rollout in rollouts] == [1.0, 0.0, 1.0, 0.0]
    tokens = [rollout["steps"][0]["tokens"] for rollout in rollouts]
    assert all(len(step["prompt_ids"]) > 1 and step["completion_logprobs"] for step in tokens)
    assert tokens[0]["completion_ids"] == tokens[2]["completion_ids"] != tokens[1]["completion_ids"]


@pytest.mark.parametrize(
    ("program", "operations"), [("gemini.py", ["embeddings", "generate_content"]), ("bedrock.py", ["chat"])]
)
def test_other_sdk_is_recorded(program: str, operations: list[str], tmp_path: Path) -> None:
    assert "The Loire." in output_of(program, tmp_path)
    calls = ask(tmp_path, "calls")
    assert sorted(call["operation"] for call in calls) == operations
    assert {call["outcome"] for call in calls} == {"success"}


def test_compose_files_agree_with_each_other() -> None:
    """They are only parsed: each file that they mount is there, each port that they speak to is one that listens."""
    for compose in (ROOT / "examples").glob("*/compose.yaml"):
        services = yaml.safe_load(compose.read_text())["services"]
        for service in services.values():
            assert service["image"]
            for volume in service.get("volumes", ()):
                assert (compose.parent / volume.split(":")[0]).is_file(), volume
            assert set(service.get("depends_on", ())) <= services.keys()
    place = ROOT / "examples/collector"
    collector, scrapes = (yaml.safe_load((place / name).read_text()) for name in ("collector.yaml", "prometheus.yaml"))
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in collector["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == collector[kind].keys()
    (target,) = scrapes["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[1] == collector["exporters"]["prometheus"]["endpoint"].split(":")[1]


def test_index_names_every_example() -> None:
    index = (ROOT / "examples/README.md").read_text()
    entries = {path.name for path in (ROOT / "examples").iterdir() if path.name not in ("README.md", "__pycache__")}
    assert {name for name in entries if f"`{name}`" not in index} == set()


FRAMEWORKS: Final = {
    "with_litellm.py": ("frameworks/litellm", "The Loire.\nThe Po.\n"),
    "with_openai_agents.py": ("frameworks/openai-agents", "Take the bicycle.\n"),
    "with_pydantic_ai.py": ("frameworks/pydantic-ai", "Take the bicycle.\n"),
    "with_langgraph.py": ("frameworks/langgraph", "Take the bicycle.\n"),
}
"""What the examples of frameworks need and print."""


@pytest.mark.parametrize("program", FRAMEWORKS)
def test_example_of_a_framework(program: str, tmp_path: Path) -> None:
    environment, printed = FRAMEWORKS[program]
    python = python_of(environment)
    command = [python, str(ROOT / "examples" / program)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=plain_environment(LITELLM_LOCAL_MODEL_COST_MAP="True"),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    calls = ask(tmp_path, "calls")
    assert [call["outcome"] for call in calls] == ["success"] * 2
    if program == "with_litellm.py":
        assert {call["provider"] for call in calls} == {"openai", "anthropic"}
        return
    session = ask(tmp_path, "show", "last")
    assert session["calls"] == 2
    assert [event["name"] for event in _events(session) if event["event_type"] == "tool"] == ["weather"]
    assert "sunny in Oslo" in json.dumps(session)


def test_example_of_the_claude_agent_sdk(tmp_path: Path) -> None:
    pytest.importorskip("claude_agent_sdk")
    home = {"HOME": str(tmp_path), "IS_SANDBOX": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    assert "The Loire.\n" in output_of("with_claude_agent_sdk.py", tmp_path, **home)
    session, calls = ask(tmp_path, "show", "last"), ask(tmp_path, "calls")
    assert session["calls"] >= 1
    assert {(call["provider"], call["outcome"]) for call in calls} == {("anthropic", "success")}
    assert "The Loire." in json.dumps(session)


def _events(value: Any) -> Iterator[dict[str, Any]]:
    """Every event in the JSON of a session."""
    if isinstance(value, dict):
        if "event_type" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _events(item)


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
