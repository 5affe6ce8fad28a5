"""Requests to models by requests and aiohttp: each is one span and one record, by every API, reader and ending."""

from __future__ import annotations

import asyncio
import gc
import gzip
import inspect
import io
import json
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
import httpx
import pytest
import requests
import urllib3
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from requests.adapters import HTTPAdapter
from tests.conftest import Instrument
from tests.support import sdks
from tests.support.calls import CHAT, End, ask, caught, everywhere, the_call, usage_of
from tests.support.http_apis import APIS, COUNTS, Api
from tests.support.left_behind import unrecorded
from tests.support.mode import Mode
from tests.support.waiting import HANG_MS, until_async
from urllib3.util.retry import Retry

import callspan
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SLOW: Final[dict[str, Any]] = {"chunk_delay_s": 0.02}
MESSAGES: Final = APIS["messages"]


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    return APIS[request.param]


def library_of(mode: Mode) -> str:
    return "aiohttp" if mode.is_async else "requests"


def session_of(mode: Mode, **options: Any) -> Any:
    """A session until the end of the test: of requests, or async of aiohttp."""
    return mode.keep(aiohttp.ClientSession(**options) if mode.is_async else requests.Session())


async def post(mode: Mode, api: Api, *, stream: bool = False, session: Any = None, **options: Any) -> Any:
    """The response; that of aiohttp, and of a stream, is open."""
    path = (api.stream_path or api.path) if stream else api.path
    body = {**api.body, **api.stream_body} if stream else api.body
    session = session_of(mode) if session is None else session
    if not mode.is_async:
        options = {"stream": stream, "timeout": 30, **options}
    url = path if path.startswith("http") else f"{mode.provider.url}{path}"
    return await mode.wait(session.post(url, **{"json": body, **options}))


async def drained(items: Any) -> None:
    async for _ in items:
        pass


async def repeated(read: Callable[[], Awaitable[Any]], last: Any = b"") -> None:
    while await read() != last:
        pass


async def exactly(response: Any) -> None:
    with suppress(asyncio.IncompleteReadError):
        while True:
            await response.content.readexactly(7)


async def at_once(response: Any) -> None:
    while not response.content.at_eof():
        response.content.read_nowait(9)
        await asyncio.sleep(0.001)


async def json_of(response: Any) -> None:
    with suppress(ValueError):
        await response.json(content_type=None)


BY_REQUESTS: dict[str, Callable[[Any], Any]] = {
    "content": lambda response: response.content,
    "text": lambda response: response.text,
    "iter_content": lambda response: list(response.iter_content(7)),
    "iter_content, as it comes": lambda response: list(response.iter_content(None)),
    "iter_content, as text": lambda response: list(response.iter_content(5, decode_unicode=True)),
    "iter_lines": lambda response: list(response.iter_lines()),
    "iter_lines, as text": lambda response: list(response.iter_lines(decode_unicode=True)),
    "iterated": list,
    "raw.read": lambda response: response.raw.read(),
    "raw.read, in pieces": lambda response: list(iter(partial(response.raw.read, 9), b"")),
    "raw.read1": lambda response: list(iter(partial(response.raw.read1, 9), b"")),
    "raw.readinto": lambda response: list(iter(partial(response.raw.readinto, bytearray(9)), 0)),
    "raw.readline": lambda response: list(iter(response.raw.readline, b"")),
    "raw.stream": lambda response: list(response.raw.stream(9)),
    "raw.data": lambda response: response.raw.data,
    "raw, iterated": lambda response: list(response.raw),
    "raw, as a file": lambda response: io.BufferedReader(response.raw).read(),
}
BY_AIOHTTP: dict[str, Callable[[Any], Any]] = {
    "read": lambda response: response.read(),
    "text": lambda response: response.text(),
    "json": json_of,
    "content": lambda response: drained(response.content),
    "content.iter_any": lambda response: drained(response.content.iter_any()),
    "content.iter_chunked": lambda response: drained(response.content.iter_chunked(7)),
    "content.iter_chunks": lambda response: drained(response.content.iter_chunks()),
    "content.read": lambda response: response.content.read(),
    "content.read, in pieces": lambda response: repeated(partial(response.content.read, 9)),
    "content.readany": lambda response: repeated(response.content.readany),
    "content.readline": lambda response: repeated(response.content.readline),
    "content.readchunk": lambda response: repeated(response.content.readchunk, (b"", False)),
    "content.readexactly": exactly,
    "content.read_nowait": at_once,
}
WAYS: Final = [*(("sync", name) for name in BY_REQUESTS), *(("async", name) for name in BY_AIOHTTP)]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{way[1]}")
def way(request: pytest.FixtureRequest, provider: ScriptedProvider) -> tuple[Mode, Callable[[Any], Any]]:
    colour, name = request.param
    if name == "raw.read1" and not hasattr(urllib3.HTTPResponse, "read1"):
        pytest.skip("this version of urllib3 has none")
    return Mode(colour, provider), (BY_AIOHTTP if colour == "async" else BY_REQUESTS)[name]


async def read_all(mode: Mode, response: Any) -> None:
    await mode.wait(response.read() if mode.is_async else response.content)


@pytest.mark.parametrize("form", ["json", "text"])
async def test_request_is_one_span_and_one_record(form: str, api: Api, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    body: dict[str, Any] = {"json": api.body}
    if form == "text":
        body = {"json": None, "data": json.dumps(api.body), "headers": {"content-type": "application/json"}}
    response = await post(mode, api, **body)
    await read_all(mode, response)
    record, usage, library = the_call(seen), usage_of(the_call(seen)), library_of(mode)
    assert (record.text, record.outcome, record.error) == ("I am quite well.", "success", None)
    assert (record.api, record.provider, record.request.model) == (api.api, api.provider, api.model)
    assert record.sdk == f"{library}/{metadata.version(library)}"
    assert (record.server_address, [one.status for one in record.attempts]) == ("127.0.0.1", [200])
    assert (usage.input_tokens, usage.output_tokens, record.stream) == (20, 9, None)
    assert bytes(record.request.body) == mode.provider.requests[0].content
    assert record.response is not None
    assert json.loads(bytes(record.response.body)) == await mode.wait(response.json())
    assert callspan.call_id(response) == record.call_id
    assert (seen.spans[0].attributes or {})["gen_ai.request.model"] == api.model


async def test_stream_is_one_span_and_one_record(api: Api, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    await read_all(mode, await post(mode, api, stream=True))
    assert_whole(seen)
    record = the_call(seen)
    assert (record.api, record.provider, record.request.model) == (api.api, api.provider, api.model)


def assert_whole(seen: Capture) -> None:
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.text, record.outcome, record.request.stream) == ("I am quite well.", "success", True)
    assert record.stream is not None
    assert record.response is not None
    assert (record.stream.end, record.stream.complete, record.response.unread) == ("complete", True, False)
    assert (usage.output_tokens, record.timing.first_token_ns is not None) == (9, True)


@pytest.mark.parametrize("delay_s", [0, 0.005], ids=["at once", "slowly"])
async def test_every_reader_is_observed(
    delay_s: float, way: tuple[Mode, Callable[[Any], Any]], provider: ScriptedProvider, seen: Capture
) -> None:
    mode, read = way
    provider.reply(**COUNTS, chunk_delay_s=delay_s)
    await mode.wait(read(await post(mode, MESSAGES, stream=True)))
    assert_whole(seen)
    await mode.close()


async def test_body_without_a_length_is_read_to_its_end(
    way: tuple[Mode, Callable[[Any], Any]], provider: ScriptedProvider, seen: Capture
) -> None:
    """A whole answer in pieces: only its end tells that nothing follows."""
    mode, read = way
    provider.reply(raw=json.dumps(WHOLE).encode(), headers={"content-type": "application/json"})
    with suppress(json.JSONDecodeError):
        await mode.wait(read(await post(mode, APIS["chat"], stream=True)))
    await mode.collect()
    record = the_call(seen)
    assert (record.text, record.outcome, usage_of(record).input_tokens) == ("Well.", "success", 20)
    await mode.close()


WHOLE: Final = {
    "id": "c", "object": "chat.completion", "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Well."}}],
}  # fmt: skip


async def left(mode: Mode, response: Any) -> None:
    async for piece in mode.items(response.content.iter_any() if mode.is_async else response.iter_content(None)):
        if b'" am"' in piece:
            break


async def closed(mode: Mode, response: Any) -> None:
    await left(mode, response)
    response.close()


async def released(mode: Mode, response: Any) -> None:
    await left(mode, response)
    if mode.is_async:
        response.release()
    else:
        response.raw.release_conn()


async def block_left(mode: Mode, response: Any) -> None:
    async with mode.entered(response):
        await left(mode, response)


async def closed_unread(mode: Mode, response: Any) -> None:
    response.close()


async def dropped(mode: Mode, response: Any) -> None:
    """Nothing is read of it."""


async def read_raw(mode: Mode, response: Any) -> None:
    await mode.wait(response.content.read() if mode.is_async else list(response.raw.stream()))


LEFT: Final[dict[str, Any]] = {"outcome": "cancelled", "end": "closed", "text": "I am", "complete": False}
BROKEN: Final[dict[str, Any]] = {"outcome": "error", "end": "error", "text": "I am", "complete": False}
ENDS: dict[str, End] = {
    "left": End(left, SLOW, **LEFT),
    "closed": End(closed, SLOW, **LEFT),
    "released": End(released, SLOW, **LEFT),
    "left with its block": End(block_left, SLOW, **LEFT),
    "closed unread": End(closed_unread, SLOW, **{**LEFT, "text": ""}),
    "dropped unread": End(dropped, SLOW, **{**LEFT, "text": ""}),
    "cut by the server": End(read_all, {"cut_after": 5}, **BROKEN, kind="connection"),
    "cut while its raw body is read": End(read_raw, {"cut_after": 5}, **BROKEN, kind="connection"),
    "an error in an event": End(
        read_all, {"error_after": 5, "error_type": "overloaded_error"}, **BROKEN, kind="overloaded"
    ),
    "ended without a reason": End(read_all, {"end_after": 5}, end="cut_off", text="I am", complete=False),
    "read for too long": End(
        read_all, {"chunk_delay_s": 2}, "timeout", "error", text="I", complete=False, kind="timeout"
    ),
    "raw body read for too long": End(
        read_raw, {"chunk_delay_s": 2}, "timeout", "error", text="I", complete=False, kind="timeout"
    ),
}  # fmt: skip


async def let_go(mode: Mode, seen: Capture) -> None:
    """Collect what was dropped; aiohttp keeps an open response until its connection ends."""
    if mode.is_async:
        await mode.close()
    await until_async(lambda: gc.collect() >= 0 and seen.records)


@pytest.mark.parametrize("name", ENDS)
async def test_stream_endings(name: str, mode: Mode, seen: Capture) -> None:
    row = ENDS[name]
    mode.provider.reply(**COUNTS, **row.reply)
    limit: Any = aiohttp.ClientTimeout(sock_read=0.3) if mode.is_async else 0.3
    response = await post(mode, MESSAGES, stream=True, **({"timeout": limit} if row.kind == "timeout" else {}))
    with suppress(Exception):
        await row.act(mode, response)
    del response
    await let_go(mode, seen)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.complete) == (row.outcome, row.end, row.complete)
    assert (record.text or "").strip() == row.text
    assert record.error is None if row.kind is None else record.error is not None and record.error.kind == row.kind


FAILURES: Final[dict[str, dict[str, Any]]] = {
    "cut": {"cut_after": 2}, "refused": {"status": 401}, "hanging": {"hang": True}, "no connection": {},
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
async def test_exceptions_are_those_of_the_library(name: str, mode: Mode) -> None:
    async def error() -> tuple[str, str]:
        mode.provider.reply(**COUNTS, **FAILURES[name])
        api = APIS["chat"]._replace(path=f"http://127.0.0.1:9{APIS['chat'].path}") if "no" in name else APIS["chat"]
        limit: Any = aiohttp.ClientTimeout(total=0.2) if mode.is_async else 0.2
        raised = await caught(asked(mode, api, limit, stream=name == "cut"))
        return type(raised).__name__, str(raised).partition("(")[0]

    bare = await error()
    with capture() as seen:
        assert await error() == bare
        record = the_call(seen)
    assert record.error is not None
    assert record.error.kind == {"cut": "connection", "refused": "auth", "hanging": "timeout"}.get(name, "connection")
    assert record.outcome == ("timeout" if name == "hanging" else "error")
    assert len(record.attempts) == 1


async def asked(mode: Mode, api: Api, limit: Any, *, stream: bool) -> None:
    response = await post(mode, api, stream=stream, timeout=limit)
    response.raise_for_status()
    await read_all(mode, response)


async def test_session_raises_for_the_status(provider: ScriptedProvider, seen: Capture) -> None:
    """Before the application has the response, whose body nobody reads."""
    mode = Mode("async", provider)
    provider.reply(status=429, message="Slow down", retry_after_s=7)
    api = APIS["chat"]._replace(path=f"{APIS['chat'].path}?key=canary-of-a-key")
    error = await caught(post(mode, api, raise_for_status=True))
    record = the_call(seen)
    assert isinstance(error, aiohttp.ClientResponseError)
    assert record.error is not None
    assert (record.error.kind, record.error.status, record.rate_limited) == ("rate_limit", 429, True)
    assert "canary" not in everywhere(seen)
    await mode.close()


async def check(response: Any) -> None:
    assert (await response.json())["error"]["message"]


def check_sync(response: Any, **options: Any) -> None:
    assert response.json()["error"]["message"]


async def test_answer_may_be_read_before_the_application_has_it(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=400, message="No such model")
    hook = {"raise_for_status": check} if mode.is_async else {"hooks": {"response": check_sync}}
    await post(mode, APIS["chat"], stream=True, **hook)
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.message, record.stream) == ("error", "No such model", None)


@pytest.mark.parametrize("act", [read_all, closed_unread, dropped])
async def test_status_is_the_error_whatever_is_read(act: Any, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=429, message="Slow down", retry_after_s=7)
    response = await post(mode, APIS["chat"], stream=True)
    await act(mode, response)
    del response
    await let_go(mode, seen)
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.stream, record.rate_limited) == ("error", None, True)
    assert (record.error.kind, record.error.message) == ("rate_limit", "Slow down" if act is read_all else None)
    assert [(one.status, one.retry_after_s) for one in record.attempts] == [(429, 7.0)]


async def test_content_may_outlive_its_response(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    body = await post(mode, MESSAGES, stream=True)
    body = body.content if mode.is_async else body.raw
    await asyncio.sleep(0.05)
    await mode.collect()
    assert seen.records == []
    await mode.wait(body.read())
    assert_whole(seen)


@pytest.mark.parametrize("name", ["gzip", "deflate", "unknown", "gzip of two members"])
@pytest.mark.parametrize("how", ["decompressed", "as it was sent"])
async def test_compressed_answer_is_read(how: str, name: str, mode: Mode, seen: Capture) -> None:
    """Azure's SDK decompresses what it reads itself."""
    content = json.dumps(WHOLE).encode()
    members = gzip.compress(content[:20]) + gzip.compress(content[20:])
    packed = {"gzip": gzip.compress(content), "deflate": zlib.compress(content)}.get(name, content)
    packed, name = (members, "gzip") if "members" in name else (packed, name)
    headers = {"content-type": "application/json", "content-encoding": name}
    mode.provider.reply(raw=packed, headers=headers)
    as_sent = how == "as it was sent"
    session = session_of(mode, **({"auto_decompress": False} if as_sent else {}) if mode.is_async else {})
    response = await post(mode, APIS["chat"], stream=True, session=session)
    if mode.is_async:
        body = await response.read()
    else:
        body = response.raw.read(decode_content=False) if as_sent else response.content
    assert body == (packed if as_sent else content)
    record = the_call(seen)
    assert record.response is not None
    is_unread = as_sent and name == "unknown"
    assert (record.outcome, record.text, record.response.unread) == (
        "success", None if is_unread else "Well.", is_unread,
    )  # fmt: skip


def repeating(**options: Any) -> requests.Session:
    session = requests.Session()
    retry = Retry(total=2, status_forcelist=[503], backoff_factor=0.01, allowed_methods=None, **options)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session


@pytest.mark.parametrize("stream", [False, True])
def test_retries_of_an_adapter_are_attempts(stream: bool, provider: ScriptedProvider, seen: Capture) -> None:
    provider.reply(status=503, retry_after_s=0)
    provider.reply(status=503)
    provider.reply(**COUNTS)
    url = f"{provider.openai_url}/chat/completions"
    with repeating() as session, session.post(url, json={**CHAT, "stream": stream}, stream=stream) as response:
        assert response.content
    record = the_call(seen)
    assert [one.status for one in record.attempts] == [503, 503, 200]
    assert (record.retries, record.outcome, record.text) == (2, "success", "I am quite well.")
    assert all(one.wait_s is not None for one in record.attempts[:2])


def test_last_attempt_is_the_error(provider: ScriptedProvider, seen: Capture) -> None:
    provider.reply(status=503, repeat=True)
    with repeating() as session, pytest.raises(requests.exceptions.RetryError):
        session.post(f"{provider.openai_url}/chat/completions", json=CHAT)
    record = the_call(seen)
    assert record.error is not None
    assert ([one.status for one in record.attempts], record.error.kind) == ([503, 503, 503], "overloaded")
    assert record.error.exception == "requests.exceptions.RetryError"


def test_attempts_without_a_connection(provider: ScriptedProvider, seen: Capture) -> None:
    with repeating() as session, pytest.raises(requests.exceptions.ConnectionError):
        session.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT)
    record = the_call(seen)
    assert record.error is not None
    assert [one.error_kind for one in record.attempts] == ["connection"] * 3
    assert (record.error.kind, record.retries) == ("connection", 2)


async def test_redirected_request_is_one_call(mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(status=307, raw=b"", headers={"location": "/v1/chat/completions"})
    mode.provider.reply(**COUNTS)
    await read_all(mode, await post(mode, APIS["chat"]._replace(path="/old/v1/chat/completions"), stream=stream))
    record = the_call(seen)
    assert (record.text, len(mode.provider.requests)) == ("I am quite well.", 2)
    assert [one.status for one in record.attempts] == [200]


async def test_cancelled_request(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(hang=True)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(post(mode, APIS["chat"]), 0.2)
    assert the_call(seen).outcome in ("cancelled", "timeout")
    await mode.close()


@pytest.mark.parametrize("read", [read_all, left], ids=["whole", "lines"])
async def test_cancelled_reader(read: Any, provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(**COUNTS, first_token_delay_s=5)
    with pytest.raises(asyncio.TimeoutError):
        async with await post(mode, MESSAGES, stream=True) as response:
            await asyncio.wait_for(read(mode, response), 0.1)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) in (("cancelled", "cancelled"), ("timeout", "error"))
    await mode.close()


async def test_cancelled_read_may_be_repeated(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(**COUNTS, chunk_delay_s=0.05)
    response = await post(mode, MESSAGES, stream=True)
    line, limits = b"-", 0
    while line:
        try:
            line = await asyncio.wait_for(response.content.readline(), 0.02)
        except asyncio.TimeoutError:
            limits += 1
    assert limits > 0
    assert_whole(seen)
    await mode.close()


async def test_error_between_two_reads(provider: ScriptedProvider, seen: Capture) -> None:
    """The connection breaks while the application is busy; the next read raises."""
    mode = Mode("async", provider)
    provider.reply(**COUNTS, cut_after=5)
    async with await post(mode, MESSAGES, stream=True) as response:
        await response.content.readline()
        await asyncio.sleep(0.1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await drained(response.content)
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("error", "connection")
    await mode.close()


async def test_time_for_everything_ends_between_two_reads(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(**COUNTS, chunk_delay_s=0.1)
    limit = aiohttp.ClientTimeout(total=0.15)
    async with await post(mode, MESSAGES, stream=True, timeout=limit) as response:
        await response.content.readline()
        await asyncio.sleep(0.3)
        with pytest.raises(asyncio.TimeoutError):
            await response.content.readany()
    assert the_call(seen).outcome == "timeout"
    await mode.close()


async def test_open_answer_of_a_closed_session_was_left(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS, chunk_delay_s=0.1)
    session = session_of(mode)
    response = await post(mode, MESSAGES, stream=True, session=session)
    await mode.wait(session.close())
    await asyncio.sleep(0.01)
    response.close()
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.error) == ("cancelled", "closed", None)


async def test_error_of_a_second_task_is_not_that_of_the_answer(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(**COUNTS, first_token_delay_s=0.2)
    response = await post(mode, APIS["ollama"], stream=True)
    first = asyncio.ensure_future(response.content.read())
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError):
        await response.content.readline()
    await first
    assert the_call(seen).outcome == "success"
    await mode.close()


class Custom(HTTPAdapter):
    """An adapter of the application's, whose answers have a body of their own."""

    def send(self, request: Any, *args: Any, **options: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.headers["content-type"] = "application/json"
        response.raw = io.BytesIO(json.dumps(WHOLE).encode())
        return response


@pytest.mark.parametrize("read", [lambda got: got.content, lambda got: list(got.iter_content(5, decode_unicode=True))])
@pytest.mark.parametrize("stream", [False, True])
def test_answer_of_another_adapter(read: Any, stream: bool, seen: Capture) -> None:
    with requests.Session() as session:
        session.mount("http://", Custom())
        read(session.post("http://ours/v1/chat/completions", json=CHAT, stream=stream))
    record = the_call(seen)
    assert (record.text, record.outcome, [one.status for one in record.attempts]) == ("Well.", "success", [200])


LOOK_ALIKES: Final[dict[str, dict[str, Any]]] = {
    "another path": {"path": "/v1/chat/messages", "json": CHAT},
    "no model": {"path": "/v1/chat/completions", "json": {"messages": CHAT["messages"]}},
    "no JSON": {"path": "/v1/chat/completions", "data": b"model=m-1"},
    "nothing": {"path": "/v1/chat/completions"},
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_look_alike_is_no_call(name: str, mode: Mode, seen: Capture) -> None:
    row, session = {**LOOK_ALIKES[name]}, session_of(mode)
    url = f"{mode.provider.url}{row.pop('path')}"
    for method in ("post", "put"):
        response = await mode.wait(getattr(session, method)(url, **row))
        await read_all(mode, response)
    assert seen.everything == []


async def test_upload_that_is_read_while_it_is_sent_is_no_call(mode: Mode, seen: Capture) -> None:
    def pieces() -> Any:
        yield json.dumps(CHAT).encode()

    async def pieces_async() -> Any:
        yield json.dumps(CHAT).encode()

    mode.provider.reply(**COUNTS)
    content = pieces_async() if mode.is_async else pieces()
    response = await post(mode, APIS["chat"], json=None, data=content)
    answer = await mode.wait(response.json())
    assert (answer["choices"][0]["message"]["content"], seen.everything) == ("I am quite well.", [])


@pytest.mark.usefixtures("unwarned")
async def test_form_is_counted(mode: Mode, store: str, instrumented: Instrument) -> None:
    handle, session = instrumented(stores=store), session_of(mode)
    url = f"{mode.provider.url}/v1/audio/transcriptions"
    for user_agent in ("mistral-client-python/1.2.3", "ours/1.0"):
        headers = {"user-agent": user_agent}
        form: dict[str, Any] = {"data": {"model": "m-1"}, "files": {"file": ("a.wav", b"RIFF")}}
        if mode.is_async:
            data = aiohttp.FormData({"model": "m-1"})
            data.add_field("file", b"RIFF", filename="a.wav")
            form = {"data": data}
        await read_all(mode, await mode.wait(session.post(url, headers=headers, **form)))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {"POST /v1/audio/transcriptions": 1}


async def test_keys_are_nowhere(mode: Mode, seen: Capture) -> None:
    headers = {"authorization": "Bearer sk-canary4f9a8b7c6d5e4f3a2b1c", "x-goog-api-key": "canary-of-a-key"}
    for status in (200, 400):
        mode.provider.reply(**{**COUNTS, "status": status, "message": "No: sk-canary4f9a8b7c6d5e4f3a2b1c"})
        api = APIS["gemini"]._replace(path=f"{APIS['gemini'].path}?key=canary-of-a-query")
        await read_all(mode, await post(mode, api, headers=headers))
    assert [record.outcome for record in seen.records] == ["success", "error"]
    assert "canary" not in everywhere(seen)


CHOICES: Final[dict[str, tuple[dict[str, Any], int]]] = {
    # the arguments of `instrument()`, and the number of records
    "everything": ({}, 1),
    "not other code": ({"http": False}, 0),
    "one SDK": ({"sdks": "openai"}, 0),
    "one SDK, and all else given as on": ({"sdks": "openai", "http": "on"}, 1),
    "other code alone": ({"sdks": "http"}, 1),
    "nothing": ({"enabled": False}, 0),
}


@pytest.mark.parametrize("name", CHOICES)
async def test_settings_hold(name: str, mode: Mode, instrumented: Instrument, tmp_path: Path) -> None:
    arguments, expected = CHOICES[name]
    options = {"stores": f"jsonl:///{tmp_path}/calls.jsonl", "tracer_provider": TracerProvider(), "propagate": True}
    handle = instrumented(**options, **arguments)
    token = attach(set_baggage("customer.email", "ann"))
    await read_all(mode, await post(mode, APIS["chat"]))
    detach(token)
    handle.force_flush(HANG_MS)
    assert "baggage" not in mode.provider.requests[0].headers
    calls = tmp_path / "calls.jsonl"
    assert len(calls.read_text().splitlines() if calls.exists() else ()) == expected
    assert ("traceparent" in mode.provider.requests[0].headers) is bool(expected)


@pytest.mark.parametrize(("variable", "expected"), [("on", 1), ("true", 1), ("off", 0), ("", 0), ("banana", 0)])
async def test_choice_of_sdks_leaves_http_as_it_is_given(
    variable: str, expected: int, mode: Mode, instrumented: Instrument, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALLSPAN_HTTP", variable)
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", sdks="openai")
    await read_all(mode, await post(mode, APIS["chat"]))
    handle.force_flush(HANG_MS)
    assert (tmp_path / "calls.jsonl").exists() is bool(expected)
    with callspan.testing.capture(sdks=["openai"], **({"http": variable} if expected else {})) as seen:
        await read_all(mode, await post(mode, APIS["chat"]))
    assert len(seen.records) == expected, "the environment is ignored"


async def test_levels_and_sessions_hold(mode: Mode, seen: Capture) -> None:
    with callspan.session("trip"), callspan.content("metadata"):
        await read_all(mode, await post(mode, APIS["chat"]))
    (record,) = seen.records
    assert (record.place.session_name, record.content_level, bytes(record.request.body)) == ("trip", "metadata", b"")


def over_aiohttp() -> Any:
    transport = pytest.importorskip("httpx_aiohttp", reason="httpx-aiohttp is not installed").AiohttpTransport
    return httpx.AsyncClient(transport=transport(client=aiohttp.ClientSession))


@pytest.mark.parametrize("read", [True, False], ids=["read", "left"])
async def test_httpx_over_aiohttp_is_one_call(
    read: bool, provider: ScriptedProvider, stream: bool, seen: Capture
) -> None:
    provider.reply(**COUNTS, **SLOW)
    async with over_aiohttp() as client:
        request = client.build_request("POST", f"{provider.url}/v1/chat/completions", json={**CHAT, "stream": stream})
        response = await client.send(request, stream=True)
        await (response.aread() if read else response.aclose())
    record = the_call(seen)
    assert (record.outcome, record.text) == (("success", "I am quite well.") if read else ("cancelled", None))
    assert str(record.sdk).startswith("httpx/")
    assert [one.status for one in record.attempts] == [200]


async def test_openai_over_aiohttp_is_one_call(provider: ScriptedProvider, stream: bool, seen: Capture) -> None:
    openai: Any = pytest.importorskip("openai")
    if not hasattr(openai, "DefaultAioHttpClient"):
        pytest.skip(f"openai {openai.__version__} has no aiohttp transport")
    mode = Mode("async", provider)
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(**COUNTS)
    await mode.whole(ask(mode.openai(max_retries=1, http_client=openai.DefaultAioHttpClient()), stream=stream))
    record = the_call(seen)
    assert (str(record.sdk).partition("/")[0], record.text) == ("openai", "I am quite well.")
    assert [one.status for one in record.attempts] == [429, 200]
    await mode.close()


class Forwarding(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport that sends by the other library."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=requests.post(str(request.url), data=request.content, timeout=30).json())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with aiohttp.ClientSession() as session, session.post(str(request.url), data=request.content) as answer:
            return httpx.Response(200, json=await answer.json())


async def test_nothing_below_a_call_is_counted_again(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    url = f"{mode.provider.url}/v1/chat/completions"
    if mode.is_async:
        async with httpx.AsyncClient(transport=Forwarding()) as client:
            await client.post(url, json=CHAT)
    else:
        with httpx.Client(transport=Forwarding()) as client:
            client.post(url, json=CHAT)
    assert str(the_call(seen).sdk).startswith("httpx/")


def by_requests(url: str, content: bytes) -> bytes:
    return requests.post(url, data=content, timeout=30).content


def by_httpx(url: str, content: bytes) -> bytes:
    return httpx.post(url, content=content).content


def by_aiohttp(url: str, content: bytes) -> bytes:
    async def answer() -> bytes:
        async with aiohttp.ClientSession() as session, session.post(url, data=content) as response:
            return await response.read()

    return asyncio.run(answer())


Sender: TypeAlias = Callable[[str, bytes], bytes]
SENDERS: Final[tuple[Sender, ...]] = (by_requests, by_httpx, by_aiohttp)


def on_another_thread(library: Any, send: Sender) -> Any:
    """A transport that sends by another library on a thread, which has not the context of the call."""
    threads = ThreadPoolExecutor(1)

    def answer(content: bytes) -> Any:
        return library.Response(200, content=content, headers={"content-type": "application/json"})

    class Transport(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            return answer(threads.submit(send, str(request.url), request.content).result())

        async def handle_async_request(self, request: Any) -> Any:
            loop = asyncio.get_running_loop()
            return answer(await loop.run_in_executor(threads, send, str(request.url), request.content))

    return Transport()


@pytest.mark.parametrize("headers", [{}, {"User-Agent": "ours/1.0"}], ids=["as the SDK", "as the application"])
@pytest.mark.parametrize("send", SENDERS)
async def test_sdk_whose_transport_sends_on_another_thread_is_one_call(
    send: Sender, headers: dict[str, str], sdk: str, mode: Mode, seen: Capture
) -> None:
    mode.provider.reply(**COUNTS, repeat=True)
    library = sdks.http_of(sdk)
    transport, client_type = on_another_thread(library, send), library.AsyncClient if mode.is_async else library.Client
    for _ in range(2):
        client = getattr(mode, sdk)(http_client=client_type(transport=transport), default_headers=headers)
        await mode.wait(ask(client))
    assert [str(record.sdk).partition("/")[0] for record in seen.records] == [sdk] * 2
    assert len(seen.spans) == len(mode.provider.requests) == 2


@pytest.mark.parametrize("send", SENDERS)
def test_gemini_whose_transport_sends_on_another_thread_is_one_call(
    send: Sender, provider: ScriptedProvider, seen: Capture
) -> None:
    genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
    provider.reply(**COUNTS)
    options = {"base_url": provider.url, "client_args": {"transport": on_another_thread(httpx, send)}}
    with genai.Client(api_key="k", http_options=options) as client:
        answer = client.models.generate_content(model="gemini-2.5-flash", contents="Hi")
    assert (the_call(seen).text, str(the_call(seen).sdk).partition("/")[0]) == (answer.text, "google-genai")


def test_equal_requests_at_once_are_calls_of_their_own(mode: Mode, seen: Capture) -> None:
    """Also those of an SDK, which sends bytes of its own."""
    url, content = f"{mode.provider.url}/v1/chat/completions", json.dumps(CHAT).encode()
    mode.provider.reply(**COUNTS, delay_s=0.3, repeat=True)
    with ThreadPoolExecutor(4) as threads, Mode("sync", mode.provider).openai() as client:
        sent = [threads.submit(send, url, content) for send in SENDERS]
        sent.append(threads.submit(client.chat.completions.create, **CHAT))
        assert all(call.result() for call in sent)
    assert len(seen.records) == 4


def test_requests_of_the_exporter_are_no_calls(
    provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path
) -> None:
    """Of a simple processor, which exports each span as it ends: also one that ends while a request is sent."""
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter(endpoint=f"{provider.url}/v1/traces")))
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", tracer_provider=tracers)

    def traced(response: Any, **options: Any) -> None:
        tracers.get_tracer("ours").start_span("hook").end()

    provider.reply(raw=b"", on="/v1/traces", repeat=True)
    provider.reply(**COUNTS)
    with requests.Session() as session:
        session.hooks["response"].append(traced)
        session.post(f"{provider.url}/v1/chat/completions", json=CHAT)
    handle.force_flush(HANG_MS)
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [len(call["attempts"]) for call in calls] == [1]
    assert sum(one.path == "/v1/traces" for one in provider.requests) == 2


async def test_span_of_a_traced_session_stays_below(provider: ScriptedProvider, seen: Capture) -> None:
    """As OpenTelemetry traces sessions of aiohttp: by a span that is current from the start of a request to its end."""
    tracer, mode = trace.get_tracer("ours"), Mode("async", provider)
    outer = otel_context.get_current()

    async def started(session: Any, state: Any, given: Any) -> None:
        state.token = otel_context.attach(trace.set_span_in_context(tracer.start_span("POST")))

    async def ended(session: Any, state: Any, given: Any) -> None:
        otel_context.detach(state.token)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(started)
    tracing.on_request_end.append(ended)
    response = await post(mode, APIS["chat"], session=session_of(mode, trace_configs=[tracing]))
    assert otel_context.get_current() == outer
    await response.read()
    assert the_call(seen).parent_span_id is None
    await mode.close()


async def test_request_of_a_tracer_is_not_the_one_that_is_sent(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)

    async def started(session: Any, *_: Any) -> None:
        async with aiohttp.ClientSession() as other, other.get(f"{provider.url}/v1/models"):
            pass

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(started)
    provider.reply(**COUNTS, on="/chat/completions")
    await read_all(mode, await post(mode, APIS["chat"], session=session_of(mode, trace_configs=[tracing])))
    assert the_call(seen).text == "I am quite well."
    await mode.close()


@pytest.mark.parametrize("pieces", [None, [b"some"], 5])
def test_what_is_no_iterator_reaches_the_caller(
    pieces: object, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another version of requests, or a class derived from its response, may return."""
    monkeypatch.setattr(requests.Response, "iter_content", lambda *_, **__: pieces)
    api = APIS["chat"]
    with capture(http=True) as seen, requests.Session() as session:
        body = {**api.body, **api.stream_body}
        with session.post(provider.url + api.path, json=body, stream=True) as response:
            assert response.iter_content() is pieces
    assert the_call(seen).api == api.api


class Again(httpx.Auth):
    """Asks again where the server refuses, as a digest or a new token does."""

    def auth_flow(self, request: httpx.Request) -> Any:
        if (yield request).status_code == 503:
            yield request


class Retrying(httpx.HTTPTransport):
    """Sends again until it is answered."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        while (response := super().handle_request(request)).status_code == 503:
            response.close()
        return response


class AsyncRetrying(httpx.AsyncHTTPTransport):
    """As `Retrying`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while (response := await super().handle_async_request(request)).status_code == 503:
            await response.aclose()
        return response


@pytest.mark.parametrize("asks", ["httpx", "openai"])
@pytest.mark.parametrize("repeats", ["auth", "transport"])
async def test_what_a_client_of_httpx_repeats_inside_is_an_attempt(
    repeats: str, asks: str, mode: Mode, seen: Capture
) -> None:
    mode.provider.reply(status=503)
    mode.provider.reply(**COUNTS)
    transport: Any = AsyncRetrying() if mode.is_async else Retrying()
    options: dict[str, Any] = {"auth": Again()} if repeats == "auth" else {"transport": transport}
    client: Any = httpx.AsyncClient(**options) if mode.is_async else httpx.Client(**options)
    if asks == "httpx":
        await mode.wait(client.post(f"{mode.provider.openai_url}/chat/completions", json=CHAT))
    else:
        await mode.wait(ask(mode.openai(http_client=client, max_retries=0)))
    record = the_call(seen)
    assert (record.outcome, [one.status for one in record.attempts]) == ("success", [503, 200])
    assert len(mode.provider.requests) == 2
    await mode.wait(client.aclose() if mode.is_async else client.close())


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answers as ASGI."""
    status, body = next(scope["state"])
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("kind", ["mock", "of an application"])
async def test_what_authentication_repeats_over_a_transport_without_network_is_an_attempt(
    kind: str, mode: Mode, seen: Capture
) -> None:
    answers = iter([(503, b"{}"), (200, json.dumps(WHOLE).encode())])

    def answered(environ: Any, start: Any) -> list[bytes]:
        status, body = next(answers)
        start(f"{status} as it is", [("content-type", "application/json")])
        return [body]

    def mocked(_: object) -> httpx.Response:
        status, body = next(answers)
        return httpx.Response(status, content=body, headers={"content-type": "application/json"})

    transport: Any = httpx.MockTransport(mocked)
    if kind == "of an application":
        application = lambda scope, receive, send: _application({**scope, "state": answers}, receive, send)  # noqa: E731
        transport = httpx.ASGITransport(application) if mode.is_async else httpx.WSGITransport(answered)
    client: Any = (httpx.AsyncClient if mode.is_async else httpx.Client)(transport=transport, auth=Again())
    await mode.wait(client.post("https://api.openai.com/v1/chat/completions", json=CHAT))
    record = the_call(seen)
    assert (record.outcome, [one.status for one in record.attempts]) == ("success", [503, 200])
    await mode.wait(client.aclose() if mode.is_async else client.close())


async def test_what_a_middleware_of_aiohttp_repeats_is_an_attempt(provider: ScriptedProvider, seen: Capture) -> None:
    if "middlewares" not in inspect.signature(aiohttp.ClientSession).parameters:
        pytest.skip("this aiohttp has no middlewares")

    async def retry(request: Any, handler: Any) -> Any:
        while (response := await handler(request)).status == 503:
            response.release()
        return response

    provider.reply(status=503)
    provider.reply(**COUNTS)
    url = f"{provider.openai_url}/chat/completions"
    async with aiohttp.ClientSession(middlewares=(retry,)) as session, session.post(url, json=CHAT) as response:
        await response.read()
    record = the_call(seen)
    assert (record.outcome, [one.status for one in record.attempts]) == ("success", [503, 200])


@pytest.mark.parametrize("method", ["get", "post"])
async def test_telemetry_sent_by_tracing_of_a_session_hides_no_call(
    method: str, provider: ScriptedProvider, seen: Capture
) -> None:
    config = aiohttp.TraceConfig()
    provider.reply(raw=b"{}", on="/collect", repeat=True)
    provider.reply(**COUNTS)
    async with aiohttp.ClientSession() as other:

        async def send(*_: object) -> None:
            async with getattr(other, method)(f"{provider.url}/collect") as answer:
                await answer.read()

        config.on_request_start.append(send)
        url = f"{provider.openai_url}/chat/completions"
        async with aiohttp.ClientSession(trace_configs=[config]) as session, session.post(url, json=CHAT) as response:
            await response.read()
    assert (the_call(seen).text, len(the_call(seen).attempts)) == ("I am quite well.", 1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_body_of_any_bytes_is_read(kind: Any, provider: ScriptedProvider, seen: Capture) -> None:
    provider.reply(**COUNTS)
    async with aiohttp.ClientSession() as session:
        body = kind(json.dumps(CHAT).encode())
        async with session.post(f"{provider.openai_url}/chat/completions", data=body) as response:
            await response.read()
    assert the_call(seen).text == "I am quite well."
