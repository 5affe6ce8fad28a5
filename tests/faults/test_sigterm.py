"""SIGTERM during an open stream: its call ends as cancelled, with a span."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
    callspan = [sys.executable, "-m", "callspan.cli"]
    done = subprocess.run(
        [*callspan, "run", "app.py"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert sorted(done.stdout.split("\n"))[1:] == ["chat cut", "chat whole"], done.stderr
    calls = subprocess.run(
        [*callspan, "calls", "--json"], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    rows = (
        [json.loads(line) for line in calls.stdout.splitlines()] if "\n{" in calls.stdout else json.loads(calls.stdout)
    )
    assert sorted(row["outcome"] for row in rows) == ["cancelled", "success"]


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
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", "run", "app.py", threads],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM, done.stderr
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
    done = subprocess.run(
        [sys.executable, "app.py"], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert sorted(done.stdout.split("\n"))[1:] == ["chat cut", "chat whole"], done.stderr
    assert "Could not" not in done.stderr


INSTRUMENTED = """
import callspan
from callspan.wiring import WIRING
WIRING.flush_before_sigterm(callspan.instrument(stores="sqlite:///calls.db").settings)
"""
