"""Processes and threads: forks, SIGTERM, exits with open streams, and calls that a killed process had begun."""

from __future__ import annotations

import contextvars
import gc
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from tests.conftest import Instrument, Read
from tests.support import sdks
from tests.support.calls import CHAT
from tests.support.processes import plain_environment, ran
from tests.support.rig import until

import callspan
from callspan.stores import StoreError
from callspan.testing import ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")
QUIET = ("-W", "ignore::DeprecationWarning")
FORKING = """
import contextlib, os, threading
import openai
import callspan
from callspan.testing import ScriptedProvider

callspan.instrument(stores="sqlite:///calls.db")
provider = ScriptedProvider()

def ask(name):
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        for _ in client.chat.completions.create(model=name, messages=[], stream=True):
            pass

ask("parent")
held = threading.Event()
release = threading.Event()

def stores():
    held.set()
    release.wait()
    yield "sqlite:///calls.db"

changing = threading.Thread(target=lambda: callspan.instrument(stores=stores()))
changing.start()
held.wait()
child = os.fork()
if child == 0:
    ask("child")
    os._exit(not callspan.instrument().force_flush(10_000))
_, status = os.waitpid(child, 0)
release.set()
changing.join()
assert status == 0, status
assert callspan.instrument().force_flush(10_000)
provider.close()
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    print(sorted(call.request.model for call in store.calls()))
"""


def test_a_child_forked_while_a_lock_was_held_records_its_calls(tmp_path: Path) -> None:
    """Another thread is within `instrument()`."""
    done = ran(*QUIET, "-c", FORKING, cwd=tmp_path)
    assert done.stdout.strip() == "['child', 'parent']"


DROPPING = """
import _thread, gc, json, os
import openai
import callspan
from callspan.testing import ScriptedProvider

def refuse(*given):
    raise RuntimeError("can't create new thread at interpreter shutdown")

_thread.start_new_thread = refuse
handle = callspan.instrument(stores="jsonl:///" + os.path.abspath("calls.jsonl"))
provider = ScriptedProvider()
client = openai.OpenAI(api_key="k", base_url=provider.openai_url)

def drop(model):
    next(client.chat.completions.create(model=model, messages=[], stream=True))
    gc.collect()

drop("parent")
if os.fork() == 0:
    drop("child")
    os._exit(not handle.force_flush(30_000))
_, status = os.wait()
assert status == 0, status
assert handle.force_flush(30_000)
provider.close()
lines = [json.loads(line) for line in open("calls.jsonl")]
print(sorted(line["request"]["model"] for line in lines if line["outcome"] == "cancelled"))
"""


def test_where_no_thread_can_be_started_a_flush_ends_the_streams_that_its_own_process_dropped(tmp_path: Path) -> None:
    assert ran(*QUIET, "-c", DROPPING, cwd=tmp_path).stdout == "['child', 'parent']\n"


REQUEST = contextvars.ContextVar("request", default="none")


def test_a_dropped_stream_ends_on_a_thread_with_an_empty_context_that_makes_no_spans(client: openai.OpenAI) -> None:
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


@pytest.mark.parametrize("ending", ["return", "raise", "fork"])
def test_a_stream_half_read_at_exit_is_one_cancelled_call(ending: str, tmp_path: Path) -> None:
    done = ran("-c", PROGRAM, ending, cwd=tmp_path, code=1 if ending == "raise" else 0)
    assert ("RuntimeError" in done.stderr) == (ending == "raise"), done.stderr
    with closing(callspan.open_store(f"sqlite:///{tmp_path / 'calls.db'}")) as store:
        (call,) = store.calls()
    assert call.outcome == "cancelled"
    assert (call.stream.end, call.stream.chunks) == ("closed", 4)
    assert json.loads(bytes(call.response.body))["choices"][0]["message"]["content"]


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
"""


def test_a_stream_that_is_open_ends_as_cancelled_and_has_its_span(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    done = ran("-m", "callspan.cli", "run", "app.py", cwd=tmp_path, code=-signal.SIGTERM)
    assert sorted(done.stdout.split("\n"))[1:] == ["chat cut", "chat whole"], done.stderr
    with closing(callspan.open_store(f"sqlite:///{tmp_path / 'callspan.db'}", deliver=True)) as store:
        assert sorted(call.outcome for call in store.calls()) == ["cancelled", "success"]


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
def test_while_the_process_ends_spans_are_sent_and_the_signal_takes_its_effect(threads: str, tmp_path: Path) -> None:
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


def test_only_a_signal_without_a_handler_is_handled_by_the_main_thread_until_uninstrumenting(
    tmp_path: Path,
) -> None:
    lines = ran("-c", HANDLING, cwd=tmp_path).stdout.splitlines()
    assert lines == ["True True True False True", "True True True True True", "True True True True True"]


ASKING = """
import os, sys, callspan, openai
callspan.instrument(stores=sys.argv[1])
client = openai.OpenAI(api_key="k", base_url=sys.argv[2])
def ask(text): client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}])
ask("short")
if sys.argv[3] == "child":
    ask("short again")
    if (child := os.fork()):
        print(child, flush=True)
        sys.exit(os.waitpid(child, 0)[1])
    ask("short too")
ask("long")
"""


@pytest.mark.parametrize("process", ["alone", "child"])
def test_a_long_call_is_in_progress_and_interrupted_once_its_process_is_killed(
    process: str, provider: ScriptedProvider, reading: Read, tmp_path: Path
) -> None:
    answered = 1 if process == "alone" else 3
    for _ in range(answered):
        provider.reply(text="At once.")
    provider.reply(hang=True)
    store = f"sqlite:///{tmp_path}/calls.db"

    command = [sys.executable, "-c", ASKING, store, provider.openai_url, process]
    with subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        asking = running.pid if process == "alone" else int(running.stdout.readline())
        try:
            until(lambda: sorted(outcomes(reading, store)) == ["in_progress", *["success"] * answered], 45)
        finally:
            subprocess.run(["kill", "-9", str(asking)], check=True)
    assert sorted(outcomes(reading, store)) == ["interrupted", *["success"] * answered]
    (call,) = (call for call in reading(store).calls() if call.outcome == "interrupted")
    assert b'"long"' in bytes(call.request.body)
    assert call.span_id


def outcomes(reading: Read, store: str) -> list[str]:
    """The outcomes of the calls in a store; none where nothing is recorded yet."""
    with suppress(StoreError):
        return [call.outcome for call in reading(store).calls()]
    return []


def redacted_there(record: Any) -> Any:
    """Redact as a service does that has its tenant in a context variable."""
    return callspan.redact_texts(lambda text: text.replace(CONTENT.get(), "-"))(record)


CONTENT = contextvars.ContextVar("CONTENT", default="nothing")


@pytest.mark.parametrize("redact", [None, redacted_there])
def test_its_first_version_has_no_content_that_is_forbidden_where_it_began(
    redact: Any, provider: ScriptedProvider, instrumented: Instrument, reading: Read, tmp_path: Path
) -> None:
    """Another thread writes it, outside of the block, where variables have other values."""
    store = f"sqlite:///{tmp_path}/calls.db"
    instrumented(stores=store, redact=redact)
    provider.reply(hang=True)

    def ask() -> None:
        CONTENT.set("SESAME")
        with (
            callspan.content("full" if redact else "off"),
            openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client,
            suppress(openai.APIConnectionError),
        ):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "SESAME"}])

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: outcomes(reading, store) == ["in_progress"])
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    provider.close()
    asking.join()
    assert kept
    assert not any(b"SESAME" in some for some in kept)


@pytest.mark.parametrize("background", [False, True])
def test_its_answer_is_the_same_call(
    background: bool, provider: ScriptedProvider, instrumented: Instrument, reading: Read, tmp_path: Path
) -> None:
    """That of a background response has its id from the answer, so nothing is written before it."""
    sdks.needs("openai", "1.66", "the Responses API")
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = instrumented(stores=store)
    provider.reply(text="Late.", delay_s=1.3)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        client.responses.create(model="gpt-5", input="Hi", background=background)
    assert handle.force_flush(30_000)
    (call,) = reading(store).calls()
    assert call.outcome == ("in_progress" if background else "success")


def credentials() -> str:
    time.sleep(2.5)
    return "token"


def azure(provider: ScriptedProvider) -> openai.AzureOpenAI:
    about = {"base_url": provider.openai_url, "api_version": "preview", "max_retries": 0}
    return openai.AzureOpenAI(azure_ad_token_provider=credentials, **about)


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_response_whose_credentials_took_long_is_one_call(
    stream: bool, provider: ScriptedProvider, instrumented: Instrument, reading: Read, tmp_path: Path
) -> None:
    """Before its request is made, nobody knows that the answer will have its id."""
    sdks.needs("openai", "1.66", "the Responses API")
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = instrumented(stores=store)
    with azure(provider) as client:
        answer: Any = client.responses.create(model="gpt-5", input="Hi", background=True, stream=stream)
        if stream:
            list(answer)
    assert handle.force_flush(30_000)
    assert len(list(reading(store).calls())) == 1


def test_a_response_whose_credentials_took_long_is_in_progress_once_it_was_requested(
    provider: ScriptedProvider, instrumented: Instrument, reading: Read, tmp_path: Path
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    store = f"sqlite:///{tmp_path}/calls.db"
    instrumented(stores=store)
    provider.reply(hang=True)

    def ask() -> None:
        with azure(provider) as client, suppress(openai.APIConnectionError):
            client.responses.create(model="gpt-5", input="Hi")

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: outcomes(reading, store) == ["in_progress"])
    provider.close()
    asking.join()
