"""Processes and threads: forks, SIGTERM, exits with open streams, and calls that a killed process had begun."""

from __future__ import annotations

import _thread
import contextvars
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from tests.conftest import Instrument, Read
from tests.support import sdks
from tests.support.calls import CHAT
from tests.support.left_behind import end_open_calls
from tests.support.processes import ROOT, plain_environment, ran, succeeds
from tests.support.rig import in_child
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan.stores import StoreError
from callspan.testing import Reply, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")
forks = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python, as this process has threads


def ends_in_time() -> bool:
    """Have a process ended that hangs, as with a lock that another thread of its parent holds."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANG_S)
    return True


@forks
def test_lock_held_at_fork_does_not_block_child(
    provider: ScriptedProvider, instrumented: Instrument, reading: Read, store: str
) -> None:
    """Another thread is within `instrument()`."""
    held, release = threading.Event(), threading.Event()

    def ask(name: str) -> bool:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            list(client.chat.completions.create(model=name, messages=[], stream=True))
        return callspan.instrument().force_flush(HANG_MS)

    def stores() -> Iterator[str]:
        held.set()
        release.wait()
        yield store

    instrumented(stores=store)
    assert ask("parent")
    changing = threading.Thread(target=lambda: instrumented(stores=stores()))
    changing.start()
    held.wait()
    try:
        in_child(lambda: ends_in_time() and ask("child"))
    finally:
        release.set()
        changing.join()
    assert sorted(str(call.request.model) for call in reading(store).calls()) == ["child", "parent"]


def refused(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


@forks
def test_flush_ends_dropped_streams_without_threads(
    provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(model: str) -> None:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            next(client.chat.completions.create(model=model, messages=[], stream=True))
        gc.collect()

    monkeypatch.setattr(_thread, "start_new_thread", refused)
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl")
    drop("parent")
    in_child(lambda: drop("child") is None and handle.force_flush(HANG_MS))
    assert handle.force_flush(HANG_MS)
    lines = map(json.loads, (tmp_path / "calls.jsonl").read_text().splitlines())
    assert sorted(line["request"]["model"] for line in lines if line["outcome"] == "cancelled") == ["child", "parent"]


SUBINTERPRETER = """
import sys, _testcapi
assert not _testcapi.run_in_subinterp(sys.stdin.read())
print("goes on")
"""
WITHIN = """
import atexit

def call(model):
    with callspan.record_call(provider="openai", api="chat_completions", model=model) as call:
        call.request({"model": model, "messages": []})
        call.response({"object": "chat.completion", "model": model, "choices": []})

atexit.register(lambda: call("last"))
import callspan
callspan.instrument(stores="sqlite:///calls.db")
call("first")
"""


def test_subinterpreter_ends_without_ending_the_process(tmp_path: Path, reading: Read) -> None:
    """As `mod_wsgi` has each application in one. Python aborts the process if a thread outlives it."""
    pytest.importorskip("_testcapi", reason="this Python was built without its test modules")
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SUBINTERPRETER], input=WITHIN, cwd=tmp_path, timeout=HANG_S, check=False,
        capture_output=True, text=True, env=plain_environment(PYTHONPATH=path),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr
    calls = reading(tmp_path / "calls.db").calls()
    assert sorted(str(call.request.model) for call in calls) == ["first", "last"]


LEFT = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
left = interpreters.create()
interpreters.run_string(left, "import callspan.runtime.background")
print("goes on")
"""


def test_subinterpreter_ends_with_its_process() -> None:
    """From Python 3.12 on, a look by Python's module for subinterpreters, as it ended, ended it once more."""
    done = subprocess.run([sys.executable, "-c", LEFT], timeout=HANG_S, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n"), done.stderr


REQUEST = contextvars.ContextVar("request", default="none")


def test_dropped_stream_ends_in_an_empty_context(client: openai.OpenAI) -> None:
    found: list[object] = []

    def look(record: Any) -> Any:
        if record.part == "ended":
            found.extend((REQUEST.get(), otel_context.get_value("request"), is_instrumentation_enabled()))
        return record

    REQUEST.set("mine")
    token = otel_context.attach(otel_context.set_value("request", "mine"))
    with capture(redact=look) as seen:
        next(client.chat.completions.create(**CHAT, stream=True))
        gc.collect()
        assert [record.outcome for record in seen.records] == ["cancelled"]
        assert is_instrumentation_enabled()
    otel_context.detach(token)
    assert found == ["none", None, False]


PROGRAM = """
import os, sys
import openai
import callspan
from callspan.testing import ScriptedProvider

callspan.instrument(stores="sqlite:///calls.db")
provider = ScriptedProvider()
provider.reply(text="one two three four five six seven")
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
stream = client.chat.completions.create(model="m", messages=[], stream=True)
for _ in range(4):
    next(stream)
if sys.argv[1] == "fork" and os.fork() == 0:
    sys.exit(0)
if sys.argv[1] == "fork":
    os.wait()
if sys.argv[1] == "raise":
    raise RuntimeError("the application's own")
"""


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="CPython 3.13.0 crashes here without callspan, too")
@pytest.mark.parametrize("ending", ["return", "raise", "fork"])
def test_half_read_stream_is_cancelled_at_exit(ending: str, tmp_path: Path, reading: Read) -> None:
    done = ran("-c", PROGRAM, ending, cwd=tmp_path, code=1 if ending == "raise" else 0)
    assert ("RuntimeError" in done.stderr) == (ending == "raise"), done.stderr
    (call,) = reading(tmp_path / "calls.db").calls()
    assert call.outcome == "cancelled"
    assert (call.stream.end, call.stream.chunks) == ("closed", 4)
    assert json.loads(bytes(call.response.body))["choices"][0]["message"]["content"]


LATE_READER = """
import atexit
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace import TracerProvider
import callspan
from callspan.testing import ScriptedProvider

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)
atexit.register(lambda: list(stream))
callspan.instrument(stores="sqlite:///calls.db")
server = ScriptedProvider()
server.reply(text="one two three four five six seven")
client = openai.OpenAI(api_key="k", base_url=server.openai_url)
with callspan.session("reading"):
    stream = client.chat.completions.create(model="m", messages=[], stream=True)
    next(stream)
"""


def test_stream_that_is_read_to_its_end_at_exit_succeeds(tmp_path: Path, reading: Read) -> None:
    """An exit handler that was registered earlier runs after callspan's, and a daemon thread beside it."""
    done = ran("-c", LATE_READER, cwd=tmp_path)
    assert (done.stdout.split("\n"), done.stderr) == (["invoke_workflow reading", "chat m", ""], "")
    store = reading(tmp_path / "calls.db")
    (call,) = store.calls()
    assert (call.outcome, call.text) == ("success", "one two three four five six seven")
    assert call.stream.end == "complete"
    assert [session.calls for session in store.sessions()] == [1]


LATE = {"model": "m", "choices": [{"message": {"role": "assistant", "content": "Late."}}], "usage": {"total_tokens": 7}}


@pytest.mark.parametrize(("path", "spans", "outcomes"), [("/chat/completions", 1, ["success"]), ("/new_thing", 0, [])])
def test_presumed_end_adds_nothing_to_the_true_one(
    path: str, spans: int, outcomes: list[str], provider: ScriptedProvider, store: str, reading: Read,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The process ends during the second attempt, twice, and the answer still comes.

    A request of which only the answer would tell that it is a call ended before.
    """

    def answer(_: object) -> Reply:
        end_open_calls()
        end_open_calls()
        return Reply(raw=LATE)

    provider.reply(status=429, error_code="insufficient_quota", headers={"retry-after-ms": "1"}, on=path)
    provider.reply(responder=answer, on=path)
    with (
        capture(stores=store) as seen,
        openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1) as client,
        callspan.session("s"),
    ):
        client.post(path, cast_to=object, body={"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    *calls, session = seen.spans
    assert (len(calls), (session.attributes or {}).get("callspan.totals.calls", 0)) == (spans, spans)
    assert all(span.end_time for span in seen.spans)
    recorded = list(reading(store).calls())
    assert [call.outcome for call in recorded] == outcomes
    for call in recorded:
        assert (call.text, call.usage and call.usage.total_tokens) == ("Late.", 7)
        assert [attempt.error_kind for attempt in call.attempts] == ["quota", None]
    assert "ended span" not in caplog.text


APPLICATION = """
import os, signal
import openai
from opentelemetry import trace
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace import TracerProvider
from callspan.testing import ScriptedProvider

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)
server = ScriptedProvider()
client = openai.OpenAI(api_key="k", base_url=server.openai_url)
list(client.chat.completions.create(model="whole", messages=[], stream=True))
left_open = client.chat.completions.create(model="cut", messages=[], stream=True)
next(iter(left_open))
os.kill(os.getpid(), signal.SIGTERM)
list(left_open)
"""


def test_open_stream_is_cancelled_and_has_its_span(tmp_path: Path, reading: Read) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    done = ran("-m", "callspan.cli", "run", "app.py", cwd=tmp_path, code=-signal.SIGTERM)
    assert sorted(done.stdout.split("\n"))[1:] == ["chat cut", "chat whole"], done.stderr
    calls = reading(tmp_path / "callspan.db").calls()
    assert sorted(call.outcome for call in calls) == ["cancelled", "success"]


UNSHARE = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]


def test_container_init_process_continues_its_streams(tmp_path: Path, reading: Read) -> None:
    if not succeeds(*UNSHARE, "true"):
        pytest.skip("no namespaces here")
    (tmp_path / "app.py").write_text(APPLICATION)
    command = [*UNSHARE, sys.executable, "-m", "callspan.cli", "run", "app.py"]
    ran("-c", f"import os; os.execvp('unshare', {command})", cwd=tmp_path)
    assert [one.outcome for one in reading(tmp_path / "callspan.db").calls()] == ["success"] * 2


AT_EXIT = """
import _thread, atexit, os, signal, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")))
trace.set_tracer_provider(provider)
provider.get_tracer("application").start_span("last").end()

def refuse(*given):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def late():
    if sys.argv[1] == "refused":
        _thread.start_new_thread = refuse
    os.kill(os.getpid(), signal.SIGTERM)

atexit.register(late)
"""


@pytest.mark.parametrize("threads", ["as they are", "refused"])
def test_signal_during_exit_takes_effect_and_sends_spans(threads: str, tmp_path: Path) -> None:
    """Python 3.12 starts no thread once it runs what is registered with `atexit`."""
    (tmp_path / "app.py").write_text(AT_EXIT)
    done = ran("-m", "callspan.cli", "run", "app.py", threads, cwd=tmp_path, code=-signal.SIGTERM)
    assert done.stdout.split() == ["last"]
    assert "Could not" not in done.stderr


HANDLING = """
import os, signal, threading, callspan

os.environ.update(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none")

def instrument():
    found.append(callspan.instrument(otlp="http://127.0.0.1:9").settings.enabled)

for before in (signal.SIG_DFL, signal.SIG_IGN, lambda number, frame: None):
    signal.signal(signal.SIGTERM, before)
    found = []
    other = threading.Thread(target=instrument)
    other.start()
    other.join()
    found.append(signal.getsignal(signal.SIGTERM) is before)
    for act in (instrument, callspan.uninstrument):
        act()
        found.append(signal.getsignal(signal.SIGTERM) is before)
    print(*found)
"""


def test_signal_handlers_are_removed_by_uninstrument(tmp_path: Path) -> None:
    lines = ran("-c", HANDLING, cwd=tmp_path).stdout.splitlines()
    assert lines == ["True True True False True", "True True True True True", "True True True True True"]


ASKING = """
import os, sys, callspan, openai
handle = callspan.instrument(stores=sys.argv[1])
client = openai.OpenAI(api_key="k", base_url=sys.argv[2])
def ask(text): client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])
ask("short")
if sys.argv[3] == "child":
    ask("short again")
    handle.force_flush(300_000)  # a store in use would be left to the parent
    if (child := os.fork()):
        print(child, flush=True)
        sys.exit(os.waitpid(child, 0)[1])
    ask("short too")
ask("long")
"""


@pytest.fixture
def outcomes(store: str) -> Callable[[], list[str]]:
    """The outcomes of the calls in the store; none where nothing is recorded yet."""

    def found() -> list[str]:
        with suppress(StoreError), closing(callspan.open_store(store)) as reader:
            return sorted(call.outcome for call in reader.calls())
        return []

    return found


@pytest.mark.parametrize("process", ["alone", "child"])
def test_killed_process_leaves_interrupted_call(
    process: str, provider: ScriptedProvider, reading: Read, outcomes: Callable[[], list[str]], store: str
) -> None:
    answered = 1 if process == "alone" else 3
    for _ in range(answered):
        provider.reply(text="At once.")
    provider.reply(hang=True)
    command = [sys.executable, "-c", ASKING, store, provider.openai_url, process]
    with subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        asking = running.pid if process == "alone" else int(running.stdout.readline())
        try:
            until(lambda: outcomes() == ["in_progress", *["success"] * answered], outcomes)
        finally:
            os.kill(asking, signal.SIGKILL)
    assert outcomes() == ["interrupted", *["success"] * answered]
    (call,) = (call for call in reading(store).calls() if call.outcome == "interrupted")
    assert b'"long"' in bytes(call.request.body)
    assert call.span_id


@pytest.fixture
def hanging(
    provider: ScriptedProvider, outcomes: Callable[[], list[str]]
) -> Callable[[Callable[[], object]], AbstractContextManager[None]]:
    """A call in another thread, from when it is in progress in the store; its connection is lost with the block."""

    @contextmanager
    def hanging(ask: Callable[[], object]) -> Iterator[None]:
        provider.reply(hang=True)
        with ThreadPoolExecutor(1) as elsewhere, closing(provider):
            elsewhere.submit(ask)
            until(lambda: outcomes() == ["in_progress"], outcomes)
            yield

    return hanging


def test_long_call_is_visible_after_failed_thread_start(
    client: openai.OpenAI, instrumented: Instrument, store: str, hanging: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = partial(client.chat.completions.create, **CHAT)
    instrumented()
    until(lambda: "callspan-deferred-ends" not in {thread.name for thread in threading.enumerate()})
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", refused)
        ask()
    instrumented(stores=store)
    with hanging(ask):
        pass


def test_long_call_is_visible_after_clock_set_back(
    client: openai.OpenAI, instrumented: Instrument, store: str, hanging: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns

    def set_back(_: object) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)

    client._client.event_hooks = {"request": [set_back]}
    instrumented(stores=store)
    with hanging(partial(client.chat.completions.create, **CHAT)):
        pass


def redacted_there(record: Any) -> Any:
    """Redact as a service does that has its tenant in a context variable."""
    return callspan.redact_texts(lambda text: text.replace(CONTENT.get(), "-"))(record)


CONTENT = contextvars.ContextVar("CONTENT", default="nothing")


@pytest.mark.parametrize("redact", [None, redacted_there])
def test_first_version_obeys_content_level(
    redact: Any, client: openai.OpenAI, instrumented: Instrument, store: str, hanging: Any, tmp_path: Path
) -> None:
    """Another thread writes it, outside of the block, where variables have other values."""
    instrumented(stores=store, redact=redact)

    def ask() -> None:
        CONTENT.set("SESAME")
        with callspan.content("full" if redact else "off"):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "SESAME"}])

    with hanging(ask):
        kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(b"SESAME" in some for some in kept)


def credentials() -> str:
    time.sleep(2.5)
    return "token"


def azure(provider: ScriptedProvider) -> openai.AzureOpenAI:
    about = {"base_url": provider.openai_url, "api_version": "preview", "max_retries": 0}
    return openai.AzureOpenAI(azure_ad_token_provider=credentials, **about)


SLOW: list[tuple[str, dict[str, Any], str]] = [
    # what takes long, how it is asked, the outcome
    ("answer", {}, "success"),
    ("answer", {"background": True}, "in_progress"),
    ("credentials", {"background": True}, "in_progress"),
    ("credentials", {"background": True, "stream": True}, "success"),
]


@pytest.mark.parametrize(("slow", "options", "outcome"), SLOW)
def test_long_response_is_one_call(
    slow: str, options: dict[str, Any], outcome: str, provider: ScriptedProvider, client: openai.OpenAI,
    instrumented: Instrument, store: str, outcomes: Callable[[], list[str]],
) -> None:  # fmt: skip
    """One in the background has its id from the answer: before its request is made, nobody knows that it will."""
    sdks.needs("openai", "1.66", "the Responses API")
    handle = instrumented(stores=store)
    provider.reply(text="Late.", delay_s=1.3 if slow == "answer" else 0)
    with azure(provider) if slow == "credentials" else client as asking:
        answer: Any = asking.responses.create(model="gpt-5", input="Hi", **options)
        if "stream" in options:
            list(answer)
    assert handle.force_flush(HANG_MS)
    assert outcomes() == [outcome]


def test_call_waiting_for_credentials_is_visible(
    provider: ScriptedProvider, instrumented: Instrument, store: str, hanging: Any
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    instrumented(stores=store)
    with azure(provider) as client, hanging(partial(client.responses.create, model="gpt-5", input="Hi")):
        pass
