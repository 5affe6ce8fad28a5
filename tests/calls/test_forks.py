"""Processes: forks, first calls of several threads, SIGTERM, and exits with open streams."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

import callspan
from tests.support import sdks
from tests.support.processes import ran

QUIET = ("-W", "ignore::DeprecationWarning")
FORKING = """
import contextlib, os, sys, threading
import openai
import callspan
from callspan.testing import ScriptedProvider
from callspan.wiring import WIRING

callspan.instrument(stores="sqlite:///calls.db")
provider = ScriptedProvider()

def ask(name):
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        for _ in client.chat.completions.create(model=name, messages=[], stream=True):
            pass

ask("parent")
held = threading.Event()
release = threading.Event()

def hold():
    with WIRING._lock, WIRING.patches._lock:
        held.set()
        release.wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    ask("child")
    WIRING.flush(10)
    os._exit(0)
_, status = os.waitpid(child, 0)
release.set()
assert status == 0, status
assert WIRING.flush(10)
provider.close()
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    print(sorted(call.request.model for call in store.calls()))
"""


def test_a_child_forked_while_locks_were_held_records_its_calls(tmp_path: Path) -> None:
    done = ran(*QUIET, "-c", FORKING, cwd=tmp_path)
    assert done.stdout.strip() == "['child', 'parent']"


@pytest.mark.timeout(700)
def test_children_forked_while_another_thread_makes_its_first_calls_neither_hang_nor_lose_or_double_a_call(
    tmp_path: Path,
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    pytest.importorskip("genai_prices")
    storm = Path(__file__).with_name("fork_storm.py")
    done = ran(*QUIET, str(storm), "30", cwd=tmp_path, timeout_s=600)
    assert done.stdout.strip() == "[]"


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


FIRST_CALLS: Final = """
import contextlib
import sys
import threading
import anthropic
import openai
import callspan
from callspan.testing import ScriptedProvider

sys.setswitchinterval(1e-6)
messages = [{"role": "user", "content": "Hi"}]
with ScriptedProvider() as provider:
    provider.reply(text="I am well.", repeat=True)
    chat = openai.OpenAI(api_key="k", base_url=provider.openai_url).chat.completions.create
    ask = anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url).messages.create
    handle = callspan.instrument(stores="sqlite:///calls.db")
    barrier = threading.Barrier(8)

    def call(create, **given):
        barrier.wait()
        create(model="m", messages=messages, **given)

    threads = [threading.Thread(target=call, args=[chat]) for _ in range(4)]
    threads += [threading.Thread(target=call, args=[ask], kwargs={"max_tokens": 9}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert handle.force_flush()
with contextlib.closing(callspan.open_store("sqlite:///calls.db")) as store:
    print(*(f"{call.outcome} {call.usage is not None}" for call in store.calls()), sep="\\n")
"""


def test_first_calls_of_several_threads_at_once_are_recorded(tmp_path: Path) -> None:
    done = ran("-c", FIRST_CALLS, cwd=tmp_path)
    assert done.stdout.splitlines() == ["success True"] * 8


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


GEVENT = """
from gevent import monkey; monkey.patch_all()
import os, signal
import gevent
"""


def test_while_all_greenlets_of_gevent_wait_streams_are_ended_and_spans_sent(tmp_path: Path) -> None:
    """Its hub runs the handler then, in which nothing may wait."""
    pytest.importorskip("gevent", reason="gevent is not installed")
    raises = "os.kill(os.getpid(), signal.SIGTERM)"
    native = "monkey.get_original('_thread', 'start_new_thread'), monkey.get_original('time', 'sleep')"
    idle = f"start, sleep = {native}\nstart(lambda: (sleep(0.5), {raises}), ())\ngevent.sleep(20)"
    (tmp_path / "app.py").write_text(
        GEVENT + INSTRUMENTED + APPLICATION.replace(raises, idle).replace("SimpleSpanP", "BatchSpanP")
    )
    done = ran("app.py", cwd=tmp_path, code=-signal.SIGTERM)
    assert sorted(done.stdout.split("\n"))[1:] == ["chat cut", "chat whole"], done.stderr
    assert "Could not" not in done.stderr


INSTRUMENTED = """
import callspan
from callspan.wiring import WIRING
WIRING.flush_before_sigterm(callspan.instrument(stores="sqlite:///calls.db").settings)
"""
