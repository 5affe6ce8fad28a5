"""Nothing is imported or compiled in the middle of the application's calls."""

from __future__ import annotations

from pathlib import Path

from tests.support import sdks
from tests.support.processes import ran

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


def test_first_calls_import_nothing(tmp_path: Path) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    assert ran("-c", FIRST_CALLS, cwd=tmp_path).stdout == "[]\n"


def test_first_stream_compiles_nothing(tmp_path: Path) -> None:
    """It is on the caller's thread, and took 5 to 30 ms."""
    assert ran("-c", FIRST_STREAM, cwd=tmp_path).stdout == "True []\n"
