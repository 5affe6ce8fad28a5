"""Other runtimes and network mocks: a small program each, in a process, with and without callspan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.processes import ran

import callspan
from callspan.testing import ScriptedProvider

pytestmark = pytest.mark.usefixtures("no_settings")

PROGRAM = """
import json, sys
{first}
url, store = sys.argv[1], sys.argv[2]
if store:
    import callspan
    handle = callspan.instrument(stores=store)
import asyncio, anthropic, openai
QUESTION = [{{"role": "user", "content": "How are you?"}}]
MESSAGE = dict(model="claude-sonnet-5", max_tokens=64, messages=QUESTION)
CHAT = dict(model="gpt-5", messages=QUESTION)
ANTHROPIC = dict(api_key="k", base_url=url, max_retries=0)
OPENAI = dict(api_key="k", base_url=url + "/v1", max_retries=0)

def wrong(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__

def calls():
    with openai.OpenAI(**OPENAI) as one, anthropic.Anthropic(**ANTHROPIC) as other:
        yield one.chat.completions.create(**CHAT).choices[0].message.content
        with one.chat.completions.create(**CHAT, stream=True) as stream:
            yield "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        yield other.messages.create(**MESSAGE).content[0].text
        stream = other.messages.create(**MESSAGE, stream=True)
        yield next(stream).type
        stream.close()
    yield wrong(lambda: openai.OpenAI(**(OPENAI | dict(base_url="http://127.0.0.1:9/v1"))).chat.completions.create(**CHAT))

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

{work}
said = work()
print(json.dumps(said))
if store:
    handle.force_flush()
    handle.uninstrument()
"""
PLAIN = """
def work():
    return [*calls(), *asyncio.run(async_calls())]
"""
UVLOOP = """
def work():
    import uvloop
    return uvloop.run(async_calls())
"""
GEVENT = """
def work():
    pool = gevent.pool.Pool(4)
    return sorted(map(str, pool.map(lambda _: list(calls()), range(6))))
"""
RESPX = """
import httpx, respx
BODY = {"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-5", "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Mocked."}}]}
EVENT = json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": [
    {"index": 0, "delta": {"content": "Streamed."}, "finish_reason": "stop"}]})

def work():
    with respx.mock as router:
        path = router.post("https://api.openai.com/v1/chat/completions")
        path.side_effect = [
            httpx.Response(429, headers={"retry-after": "0.001"}), httpx.Response(200, json=BODY),
            httpx.Response(200, headers={"content-type": "text/event-stream"}, text=f"data: {EVENT}\\n\\n"),
            httpx.ConnectError("no"),
        ]
        one = openai.OpenAI(api_key="k", max_retries=1, http_client=httpx.Client())
        said = [one.chat.completions.create(**CHAT).choices[0].message.content]
        said += [chunk.choices[0].delta.content for chunk in one.chat.completions.create(**CHAT, stream=True)]
        said.append(wrong(lambda: one.with_options(max_retries=0).chat.completions.create(**CHAT)))
        return [*said, path.call_count, [json.loads(call.request.content) for call in path.calls]]
"""


@pytest.fixture
def outcomes(tmp_path: Path, provider: ScriptedProvider, store: str) -> Callable[..., list[str]]:
    """How each recorded call of a program ended, which prints the same with and without callspan."""

    def found(program: str, *options: str) -> list[str]:
        arguments = (*options, "-c", program, provider.url)
        bare, observed = (ran(*arguments, url, cwd=tmp_path) for url in ("", store))
        assert (observed.stdout, observed.stderr, bare.stderr) == (bare.stdout, "", "")
        with closing(callspan.open_store(store)) as reader:
            return sorted(call.outcome for call in reader.calls())

    return found


ALL = ["cancelled", "cancelled", "cancelled", "error", *["success"] * 5]
PROGRAMS: dict[str, tuple[str, str, list[str]]] = {
    # by module that is needed: what comes first, the work, how its calls end
    "uvloop": ("", UVLOOP, ["cancelled", "cancelled", "success", "success"]),
    # Everything is patched before anything is imported, our own threads and locks with it.
    "gevent": (
        "from gevent import monkey; monkey.patch_all(); import gevent.pool", GEVENT,
        ["cancelled"] * 6 + ["error"] * 6 + ["success"] * 18,
    ),
    "respx": ("", RESPX, ["error", "success", "success"]),
}  # fmt: skip


@pytest.mark.parametrize("option", ["-OO", "-Werror"])
def test_options_of_the_interpreter(option: str, outcomes: Callable[..., list[str]]) -> None:
    assert outcomes(PROGRAM.format(first="", work=PLAIN), option) == ALL


@pytest.mark.parametrize("module", PROGRAMS)
def test_calls_of_other_runtimes(module: str, outcomes: Callable[..., list[str]]) -> None:
    pytest.importorskip(module, reason=f"{module} is not installed")
    first, work, ends = PROGRAMS[module]
    assert outcomes(PROGRAM.format(first=first, work=work)) == ends
