"""Nothing is imported or compiled in the middle of calls; a package that is imported anew is hooked anew."""

from __future__ import annotations

from pathlib import Path

import pytest
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


ANEW = """
import asyncio, gc, importlib, sys, weakref
import callspan
from callspan.testing import ScriptedProvider, capture

package, rounds = sys.argv[1], 2
provider = ScriptedProvider()
provider.reply(text="I am well.", repeat=True)
url = provider.openai_url + "/chat/completions"
messages = [{"role": "user", "content": "Hi"}]
body = {"model": "gpt-4o", "messages": messages}

def by_openai(openai):
    client = openai.OpenAI(api_key="k", base_url=provider.openai_url)
    client.chat.completions.create(**body)
    return list(client.chat.completions.create(**body, stream=True))

def by_anthropic(anthropic):
    client = anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url)
    client.messages.create(**body, max_tokens=9)
    return list(client.messages.create(**body, max_tokens=9, stream=True))

def by_httpx(httpx):
    httpx.post(url, json=body)
    with httpx.stream("POST", url, json=body | {"stream": True}) as response:
        return list(response.iter_lines())

def by_requests(requests):
    requests.post(url, json=body)
    return list(requests.post(url, json=body | {"stream": True}, stream=True).iter_lines())

def by_aiohttp(aiohttp):
    async def work():
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json=body) as response:
                await response.read()
            async with session.post(url, json=body | {"stream": True}) as response:
                return [line async for line in response.content]
    return asyncio.run(work())

def by_google_genai(genai):
    options = {"base_url": provider.url, "api_version": "v1beta"}
    client = genai.Client(api_key="k", http_options=options)
    client.models.generate_content(model="gemini-2.5-flash", contents="Hi")
    return list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi"))

call = globals()["by_" + package.replace(".", "_")]

def imported():
    return importlib.import_module(package)

def forget(*packages):
    for name in list(sys.modules):
        if name.partition(".")[0] in packages or ".".join(name.split(".")[:2]) in packages:
            del sys.modules[name]

def shown(seen, before=0):
    records = seen.records[before:]
    return [(record.outcome, len(record.attempts), record.stream and record.stream.end) for record in records]

first = imported()
with capture() as capturing:
    call(first)
    expected = shown(capturing)
    assert [outcome for outcome, _, _ in expected] == ["success"] * 2, expected
    states = [(status.name, status.state) for status in callspan.patch_status()]
    classes = weakref.WeakSet()  # of the clients
    for _ in range(rounds):
        forget(package)
        anew = imported()
        assert anew is not first
        classes.update(value for name, value in vars(anew).items() if name in ("Client", "Session"))
        before = len(capturing.records)
        call(anew)
        assert shown(capturing, before) == expected, (shown(capturing, before), expected)
    assert [(status.name, status.state) for status in callspan.patch_status()] == states
    count = len(capturing.spans)
    assert count == len(capturing.records) == 2 * (rounds + 1), count
has_former = package not in ("openai", "anthropic")  # in their functions they import from the package of that name
for _ in range(2):
    with capture() as again:
        for module in [anew, first] if has_former else [anew]:
            before = len(again.records)
            call(module)
            assert shown(again, before) == expected, (module, shown(again, before))
provider.close()
del anew, module
gc.collect()
assert len(classes) <= 1 or not has_former, "the others were collected"
print("ok")
"""


@pytest.mark.parametrize("package", ["httpx", "requests", "aiohttp", "openai", "anthropic", "google.genai"])
def test_package_that_is_imported_anew_is_recorded(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason="is not installed")
    assert ran("-c", ANEW, package, cwd=tmp_path).stdout == "ok\n"


def test_first_calls_import_nothing(tmp_path: Path) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    assert ran("-c", FIRST_CALLS, cwd=tmp_path).stdout == "[]\n"


def test_first_stream_compiles_nothing(tmp_path: Path) -> None:
    """It is on the caller's thread, and took 5 to 30 ms."""
    assert ran("-c", FIRST_STREAM, cwd=tmp_path).stdout == "True []\n"
