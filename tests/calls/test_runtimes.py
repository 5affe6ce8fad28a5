"""Options of the interpreter, another event loop, greenlets: a program in a process, with and without callspan."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.processes import ran

import callspan
from callspan.testing import ScriptedProvider

if TYPE_CHECKING:
    from tests.support.receiver import OtlpReceiver

pytestmark = pytest.mark.usefixtures("no_settings")

PROGRAM = """
import json, sys
url, store, loop = sys.argv[1:]
if store:
    import callspan
    handle = callspan.instrument(stores=store)
import asyncio, anthropic, openai
QUESTION = [{"role": "user", "content": "How are you?"}]
MESSAGE = dict(model="claude-sonnet-5", max_tokens=64, messages=QUESTION)
CHAT = dict(model="gpt-5", messages=QUESTION)
ANTHROPIC = dict(api_key="k", base_url=url, max_retries=0)
OPENAI = dict(api_key="k", base_url=url + "/v1", max_retries=0)

def calls():
    with openai.OpenAI(**OPENAI) as one, anthropic.Anthropic(**ANTHROPIC) as other:
        yield one.chat.completions.create(**CHAT).choices[0].message.content
        with one.chat.completions.create(**CHAT, stream=True) as stream:
            yield "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        yield other.messages.create(**MESSAGE).content[0].text
        stream = other.messages.create(**MESSAGE, stream=True)
        yield next(stream).type
        stream.close()
    try:
        openai.OpenAI(**(OPENAI | dict(base_url="http://127.0.0.1:9/v1"))).chat.completions.create(**CHAT)
    except Exception as error:
        yield type(error).__name__

async def async_calls():
    said = []
    async with openai.AsyncOpenAI(**OPENAI) as one, anthropic.AsyncAnthropic(**ANTHROPIC) as other:
        said.append((await one.chat.completions.create(**CHAT)).choices[0].message.content)
        async with other.messages.stream(**MESSAGE) as stream:
            said.append([event.type async for event in stream])
        stream = await one.chat.completions.create(**CHAT, stream=True)
        said.append((await anext(stream)).object)
        await stream.close()
        task = asyncio.ensure_future(other.messages.create(**MESSAGE))
        await asyncio.sleep(0)
        task.cancel()
        said.append([type(one).__name__ for one in await asyncio.gather(task, return_exceptions=True)])
    return said

print(json.dumps([*calls(), *__import__(loop).run(async_calls())]))
if store:
    handle.force_flush(300_000)
    handle.uninstrument()
"""


@pytest.mark.parametrize(("options", "loop"), [(["-OO"], "asyncio"), (["-Werror"], "asyncio"), ([], "uvloop")])
def test_runtime_is_unchanged(
    options: list[str], loop: str, tmp_path: Path, provider: ScriptedProvider, store: str
) -> None:
    pytest.importorskip(loop, reason=f"{loop} is not installed")
    bare, observed = (ran(*options, "-c", PROGRAM, provider.url, url, loop, cwd=tmp_path) for url in ("", store))
    assert (observed.stdout, observed.stderr, bare.stderr) == (bare.stdout, "", "")
    with closing(callspan.open_store(store, deliver=True)) as reader:
        ends = sorted(call.outcome for call in reader.calls())
    assert ends == ["cancelled", "cancelled", "cancelled", "error", *["success"] * 5]


GREENLETS = """
# Everything is patched before anything is imported, callspan's threads and locks with it.
from gevent import monkey; monkey.patch_all()
import gevent.pool, json, os, signal, sys, time
url, store = sys.argv[1:]
if store:
    import callspan
    callspan.instrument(stores=store, otlp=True)
import openai
client = openai.OpenAI(api_key="k", base_url=url + "/v1", max_retries=0)

def ask(_):
    asked = dict(model="gpt-5", messages=[{"role": "user", "content": "How are you?"}])
    with client.chat.completions.create(**asked, stream=True) as stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    return [client.chat.completions.create(**asked).choices[0].message.content, said]

print(json.dumps(gevent.pool.Pool(4).map(ask, range(6))), flush=True)

def end():
    monkey.get_original("time", "sleep")(0.5)
    os.kill(os.getpid(), signal.SIGTERM)

gevent.get_hub().threadpool.spawn(end)
time.sleep(300)
"""


def test_greenlets_and_a_signal(tmp_path: Path, provider: ScriptedProvider, receiver: OtlpReceiver, store: str) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    bare, observed = (
        ran(
            "-c", GREENLETS, provider.url, url, cwd=tmp_path, code=-signal.SIGTERM,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none",
        )
        for url in ("", store)
    )  # fmt: skip
    assert (observed.stdout, observed.stderr) == (bare.stdout, "")
    assert len(json.loads(observed.stdout)) == 6
    assert len(receiver.spans) == 12
    with closing(callspan.open_store(store, deliver=True)) as reader:
        assert [call.outcome for call in reader.calls()] == ["success"] * 12


HANGING = """
import os, signal, socket, sys, threading, time
import callspan, openai
url, how, directory, what = sys.argv[1:]
hole = socket.create_server(("127.0.0.1", 0), backlog=50)  # takes connections, and never answers
silent = f"127.0.0.1:{hole.getsockname()[1]}"
is_ending = threading.Event()

def redact(record):
    while is_ending.is_set():
        time.sleep(1)
    return record

stores = f"sqlite:///{directory}/c.db"
if what == "hangs":
    callspan.instrument(stores=(f"clickhouse://{silent}/d", stores), redact=redact, otlp=f"http://{silent}")
else:
    callspan.instrument(stores=stores)
client = openai.OpenAI(api_key="k", base_url=url + "/v1", max_retries=0)
asked = dict(model="gpt-5", messages=[{"role": "user", "content": "How are you?"}])
client.chat.completions.create(**asked)
streams = [client.chat.completions.create(**asked, stream=True) for _ in range(2)]
for stream in streams:
    next(stream)
is_ending.set()
print(f"{time.monotonic():.2f}", flush=True)
if how == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
if how == "exit":
    sys.exit()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(300)
"""


@pytest.mark.parametrize("how", ["exit", "handled", "default"])
def test_end_has_one_bound_whatever_hangs(how: str, tmp_path: Path, provider: ScriptedProvider) -> None:
    """Two stores, two exporters, a redactor and open streams: those that hang took 24 s one after the other."""
    code = -signal.SIGTERM if how == "default" else 0
    took_s = []
    for what in ("works", "hangs"):
        spool = str(tmp_path / what)
        ended = ran(
            "-c", HANGING, provider.url, how, str(tmp_path), what, cwd=tmp_path, code=code, CALLSPAN_SPOOL_DIR=spool
        )
        took_s.append(time.monotonic() - float(ended.stdout))
    assert took_s[1] < took_s[0] + 12, "ten seconds, as the documents say, and two for a busy machine"


SUITE = """
import openai, pytest
import callspan

@pytest.fixture(scope="session", autouse=True)
def recording():
    handle = callspan.instrument(stores={store!r})
    yield
    handle.uninstrument()

@pytest.mark.parametrize("number", range(40))
def test_agent(number):
    client = openai.OpenAI(api_key="k", base_url={url!r}, max_retries=0)
    with client, callspan.session(session_id=str(number)):
        for each in range(3):
            with callspan.metadata(run_id=f"{{number}}-{{each}}"):
                client.chat.completions.create(model="gpt-5", messages=[{{"role": "user", "content": "Hi"}}])
"""


def test_test_workers_share_a_store(tmp_path: Path, provider: ScriptedProvider, store: str) -> None:
    """pytest-xdist ends its workers itself; nothing is lost or doubled."""
    (tmp_path / "test_app.py").write_text(SUITE.format(store=store, url=provider.openai_url))
    arguments = ("-n", "4", "-p", "no:cacheprovider", "-p", "no:randomly")
    ran("-m", "pytest", *arguments, "test_app.py", cwd=tmp_path)
    with closing(callspan.open_store(store, deliver=True)) as reader:
        runs = sorted(str(call.metadata["run_id"]) for call in reader.calls())
        sessions = [(one.session.session_id, one.calls) for one in reader.sessions() if one.session.end_ns]
    assert runs == sorted(f"{number}-{each}" for number in range(40) for each in range(3))
    assert sorted(sessions) == sorted((str(number), 3) for number in range(40))


DAEMONS = """
import openai, os, sys, threading, time
url, store = sys.argv[1:]
if store:
    import callspan
    callspan.instrument(stores=store)
client = openai.OpenAI(api_key="k", base_url=url + "/v1", max_retries=0)

def work(name):
    for number in range(10**6):
        key = f"{name}-{number}"
        asked = dict(model="gpt-5", messages=[{"role": "user", "content": key}], stream=number % 2 == 1)
        answer = client.chat.completions.create(**asked)
        if asked["stream"]:
            list(answer)
        os.write(1, f"{key}\\n".encode())
        done.append(key)

done = []
for name in "abcd":
    threading.Thread(target=work, args=[name], daemon=True).start()
while len(done) < 40:
    time.sleep(0.01)
"""


def test_daemon_threads_may_call_until_exit(tmp_path: Path, provider: ScriptedProvider, store: str) -> None:
    bare, observed = (ran("-c", DAEMONS, provider.url, url, cwd=tmp_path) for url in ("", store))
    assert (observed.stderr, bare.stderr) == ("", "")
    with closing(callspan.open_store(store, deliver=True)) as reader:
        ended = [call for call in reader.calls() if call.outcome == "success"]
        recorded = [json.loads(bytes(call.request.body))["messages"][0]["content"] for call in ended]
    noted = observed.stdout.split()
    assert len(noted) >= 40
    assert {*noted} <= {*recorded}
    assert len(recorded) == len({*recorded})
