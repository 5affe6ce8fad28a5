"""Nothing is imported in the middle of the application's calls, and little that no user sees by tests.

Slow tests are named in one place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.nightly import FILES, SAMPLES
from tests.support import sdks
from tests.support.processes import ROOT, ran

import callspan

SOURCE = Path(callspan.__file__).parent
ELSEWHERE = ("cli", "testing", "datasets", "reports", "environments")
"""Never on a caller's path, nor in a thread of ours."""
DECLARED = {
    "forks.py: logging": "before the hooks of forks are registered, which wait for its lock",
    "opening.py: callspan.delivery": "within open_store(deliver=True)",
    "otlp/answers.py: opentelemetry.proto.collector.trace.v1.trace_service_pb2": "within callspan send",
    "otlp/answers.py: requests": "within callspan send",
    "otlp/providers.py: opentelemetry.sdk._logs": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk._logs.export": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk.metrics": "within instrument(otlp=...)",
    "otlp/providers.py: opentelemetry.sdk.metrics.export": "within instrument(otlp=...)",
    "sdk_import.py: callspan.fail_open": "within the import, for a variable that is invalid",
    "sdk_import.py: callspan.safe_urls": "within the import, for a variable that is invalid",
    "sdk_import.py: logging": "within the import, for a variable that is invalid",
}
FIRST_CALLS = """
import sys, time
import openai, anthropic
import callspan
from callspan.testing import ScriptedProvider

callspan.instrument(stores="sqlite:///calls.db,jsonl:///calls.jsonl")
provider = ScriptedProvider()
openai_client = openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0)
anthropic_client = anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0)
messages = [{"role": "user", "content": "Hi"}]

late = set()

def imported(event, arguments):
    if event != "import":
        return
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("callspan.") and not name.startswith("callspan.testing"):
            late.add((arguments[0], name))
            return
        if name.partition(".")[0] in ("openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"):
            return  # theirs
        frame = frame.f_back

sys.addaudithook(imported)
with callspan.session("s") as session:
    with session.timestep() as step:
        openai_client.chat.completions.create(model="gpt-4o", messages=messages)
        with step.tool("t"):
            pass
        step.environment("o", reward=1.0, terminated=True)
    session.outcome(reward=1.0, success=True)
list(openai_client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
openai_client.responses.create(model="gpt-4o", input="Hi")
openai_client.embeddings.create(model="e", input="Hi")
anthropic_client.messages.create(model="claude-sonnet-4-5", messages=messages, max_tokens=9)
list(anthropic_client.messages.create(model="claude-sonnet-4-5", messages=messages, max_tokens=9, stream=True))
provider.reply(status=429, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
try:
    openai_client.chat.completions.create(model="gpt-4o", messages=messages)
except openai.OpenAIError:
    pass
with callspan.record_call(provider="p") as call:
    call.request({"model": "m", "messages": messages})
    call.response({"choices": []})
next(iter(openai_client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)))
assert callspan.instrument(stores="sqlite:///calls.db,jsonl:///calls.jsonl").force_flush(300_000)
provider.close()
print(sorted(late))
"""


FIRST_STREAM = """
import sys, threading, time
import openai
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
import callspan
from callspan.testing import ScriptedProvider

provider = ScriptedProvider()
trace.set_tracer_provider(TracerProvider())
metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
callspan.instrument(stores=())
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
compiled = {True: [], False: []}

def compiles(event, arguments):
    if event == "compile" and "attributes from" in str(arguments[1]):
        compiled[is_waited_for and threading.current_thread() is threading.main_thread()].append(arguments[1])

is_waited_for = False
sys.addaudithook(compiles)
chunks = iter(client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], stream=True))
next(chunks)
while any(thread.name == "callspan-preparing" for thread in threading.enumerate()):
    time.sleep(0.05)
is_waited_for = True
list(chunks)
provider.close()
print(len(compiled[False]) > 4, compiled[True])
"""


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules from which code imports; relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def inside_functions() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        where, text = path.relative_to(SOURCE), path.read_text()
        if where.parts[0] in ELSEWHERE or not re.search(r"(^[ \t]+|[:;][ \t]*)(from|import)\b", text, re.MULTILINE):
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from (f"{where.as_posix()}: {module}" for module in imported(function))


def test_function_level_imports_are_declared() -> None:
    assert sorted(set(inside_functions())) == sorted(DECLARED)


def test_first_calls_import_nothing(tmp_path: Path) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    assert ran("-c", FIRST_CALLS, cwd=tmp_path).stdout == "[]\n"


def test_first_stream_compiles_nothing(tmp_path: Path) -> None:
    """It is on the caller's thread, and took 5 to 30 ms."""
    assert ran("-c", FIRST_STREAM, cwd=tmp_path).stdout == "True []\n"


def test_nightly_files_exist_and_are_at_most_thirty() -> None:
    assert len(FILES) <= 30
    assert [file for file in FILES if not (ROOT / file).is_file()] == []


def test_sampled_tests_exist() -> None:
    """A test that was renamed would run whole again."""
    sampled = [(file, test) for file, tests in SAMPLES.items() for test in tests]
    assert [(file, test) for file, test in sampled if f"def {test}(" not in (ROOT / file).read_text()] == []


PUBLIC = re.compile(r"callspan\.(records|stores|datasets|(testing|environments)(\..*)?)")
MOST_PRIVATE = 45
"""Files of tests that import other modules of callspan; the aim is 45: properties and tables."""


def files_of_tests() -> dict[str, list[str]]:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): [*imported(ast.parse(path.read_text()))] for path in paths}


def test_test_files_with_private_imports_do_not_increase() -> None:
    private = [
        file
        for file, modules in files_of_tests().items()
        if any(module.startswith("callspan.") and not PUBLIC.fullmatch(module) for module in modules)
    ]
    assert len(private) <= MOST_PRIVATE, private


def test_test_files_do_not_import_each_other() -> None:
    """What two of them need is in a helper."""
    sharing = {
        file: module for file, modules in files_of_tests().items() for module in modules
        if module.rpartition(".")[2].startswith("test_")
    }  # fmt: skip
    assert sharing == {}
