"""Requests without an answer: which of them the provider may have billed, by every client and every way to end."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from typing import Any, Final

import aiohttp
import httpx
import openai
import pytest
import requests
from tests.support.waiting import HANG_S

from callspan import open_store
from callspan.records import CallRecord
from callspan.stores import Summary
from callspan.testing import ScriptedProvider, capture

genai: Any = pytest.importorskip("google.genai")
boto3: Any = pytest.importorskip("boto3")
botocore_config: Any = pytest.importorskip("botocore.config")

pytestmark = pytest.mark.filterwarnings("ignore")
SOON_S: Final = 1.0
"""A time-out after which a loaded machine has connected."""
ASKED: Final[dict[str, Any]] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
HEAD: Final = "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
RESET: Final = struct.pack("ii", 1, 0)


class Server:
    """Reads each request, then does with its connection what it was told. Used by several threads."""

    def __init__(self, end: str) -> None:
        self.end, self.received = end, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data or not data.rstrip().endswith((b"}", b"0")):
            piece = connection.recv(65_536)
            if not piece:
                return
            data += piece
            if self.end == "no handshake":
                self.received.set()
        self.received.set()
        if self.end in ("silent", "no handshake"):
            return
        if self.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif self.end == "half a body":
            connection.sendall(HEAD.format(status=200, length=500).encode() + b'{"id": "c"')
        elif self.end.isdigit():
            connection.sendall(HEAD.format(status=self.end, length=2).encode() + b"{}")
        connection.close()

    def close(self) -> None:
        for each in (self.listener, *self.open):
            each.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


def by_openai(url: str) -> object:
    client = openai.OpenAI(api_key="k", base_url=f"{url}/v1", timeout=SOON_S, max_retries=0)
    return client.chat.completions.create(**ASKED)


def by_httpx(url: str) -> object:
    return httpx.post(f"{url}/v1/chat/completions", json=ASKED, timeout=SOON_S)


def by_requests(url: str) -> object:
    return requests.post(f"{url}/v1/chat/completions", json=ASKED, timeout=SOON_S)


def by_google(url: str) -> object:
    client = genai.Client(api_key="k", http_options={"base_url": url, "timeout": int(SOON_S * 1000)})
    return client.models.generate_content(model="gemini-2.5-flash", contents="q")


def by_boto3(url: str) -> object:
    config = botocore_config.Config(read_timeout=SOON_S, connect_timeout=SOON_S, retries={"total_max_attempts": 1})
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=url, config=config, verify=False, **keys)
    return client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "q"}]}])


async def by_async_openai(url: str) -> object:
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", timeout=SOON_S, max_retries=0) as client:
        return await client.chat.completions.create(**ASKED)


async def by_aiohttp(url: str) -> object:
    timeout = aiohttp.ClientTimeout(total=SOON_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{url}/v1/chat/completions", json=ASKED) as answer,
    ):
        return await answer.json()


async def by_async_google(url: str) -> object:
    client = genai.Client(api_key="k", http_options={"base_url": url, "timeout": int(SOON_S * 1000)})
    return await client.aio.models.generate_content(model="gemini-2.5-flash", contents="q")


WAYS: dict[str, Callable[[str], Any]] = {
    way.__name__: way for way in (
        by_openai, by_httpx, by_requests, by_google, by_boto3, by_async_openai, by_aiohttp, by_async_google,
    )
}  # fmt: skip
IN_TASKS = [name for name, way in WAYS.items() if asyncio.iscoroutinefunction(way)]
ENDS = {
    "silent": True, "reset": True, "hangs up": True, "half a body": True, "no handshake": False,
    "400": False, "429": False, "500": False, "503": False, "408": True, "504": True, "524": True,
}  # fmt: skip
"""Whether the provider may have billed a request that ended so."""
every_way = pytest.mark.parametrize("way", WAYS)


def url_of(server: Server) -> str:
    return f"http{'s' if server.end == 'no handshake' else ''}://127.0.0.1:{server.port}"


def asked(way: str, url: str) -> CallRecord:
    """The record of a call that fails."""
    with capture() as seen:
        with suppress(Exception):  # of any library
            answer = WAYS[way](url)
            if way in IN_TASKS:
                asyncio.run(answer)
            elif isinstance(answer, httpx.Response | requests.Response):
                answer.raise_for_status()
        (record,) = seen.records
    return record


@every_way
@pytest.mark.parametrize(("server", "may_be_billed"), ENDS.items(), indirect=["server"], ids=ENDS)
def test_request_without_an_answer_may_be_billed_by_its_end(way: str, server: Server, may_be_billed: bool) -> None:
    record = asked(way, url_of(server))
    if (way, server.end) == ("by_boto3", "half a body"):
        assert record.response and record.response.unrecognized, "boto3 gives what it got as an answer"
        return
    assert record.attempts, record.error
    assert {attempt.may_be_billed for attempt in record.attempts} == {may_be_billed}, record.attempts
    assert record.may_be_billed == len(record.attempts) * may_be_billed
    assert record.is_free != may_be_billed


@every_way
def test_request_that_found_no_connection_is_not_billed(way: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    record = asked(way, f"http://127.0.0.1:{port}")
    assert (record.may_be_billed, record.is_free) == (0, True)


@pytest.mark.parametrize("way", IN_TASKS)
@pytest.mark.parametrize(("server", "may_be_billed"), [("silent", 1), ("no handshake", 0)], indirect=["server"])
@pytest.mark.parametrize("stop", ["cancelled", "a deadline"])
def test_cancelled_request_may_be_billed_once_it_was_sent(
    way: str, server: Server, may_be_billed: int, stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.SOON_S", HANG_S)

    async def run() -> None:
        task = asyncio.create_task(WAYS[way](url_of(server)))
        await asyncio.to_thread(server.received.wait, HANG_S)
        if stop == "cancelled":
            task.cancel()
            await task
        else:
            await asyncio.wait_for(task, 0.01)

    with capture() as seen:
        with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
            asyncio.run(run())
        (record,) = seen.records
    assert (record.may_be_billed, record.is_free) == (may_be_billed, not may_be_billed)


def test_error_that_the_application_is_handling_says_nothing() -> None:
    """A fallback in an `except` block has the first error as its context."""
    server = Server("silent")

    async def fall_back() -> None:
        try:
            raise httpx.ConnectError("the first provider is away")
        except httpx.ConnectError:
            task = asyncio.create_task(by_aiohttp(url_of(server)))
            await asyncio.to_thread(server.received.wait, HANG_S)
            task.cancel()
            await task

    with capture() as seen:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(fall_back())
        (record,) = seen.records
    server.close()
    assert record.may_be_billed == 1


STREAMS: dict[str, tuple[Callable[[ScriptedProvider], Any], bool]] = {
    "chat, no usage asked": (lambda p: chat(p, n=1), False),
    "chat, usage asked": (lambda p: chat(p, stream_options={"include_usage": True}), True),
    "Responses": (lambda p: client_of(p).responses.create(model="gpt-4o", input="q", stream=True), True),
}


def client_of(provider: ScriptedProvider) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0)


def chat(provider: ScriptedProvider, **options: Any) -> Any:
    return client_of(provider).chat.completions.create(**ASKED, stream=True, **options)


@pytest.mark.parametrize("end", ["cut", "left", "read"])
@pytest.mark.parametrize("name", STREAMS)
def test_stream_without_the_usage_that_was_to_come_may_be_billed(name: str, end: str) -> None:
    ask, states_usage = STREAMS[name]
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(text="One two three four", **({"end_after": 3} if end == "cut" else {}))
        stream = ask(provider)
        next(stream) if end == "left" else list(stream)
        stream.close()
        (record,) = seen.records
    assert record.may_be_billed == (states_usage and end != "read")


@pytest.mark.parametrize("answer", ["answered", "cached", "never"])
def test_sums_say_what_may_have_been_billed(answer: str, store: str) -> None:
    """Two calls: one whose first request times out, and one as usual."""
    ends: list[dict[str, Any]] = [{"hang": True}, {"hang": True} if answer == "never" else {"text": "Well."}]
    if answer == "cached":
        ends[1] |= {"headers": {"x-litellm-cache-key": "k"}}
    with ScriptedProvider() as provider, capture(stores=store) as seen:
        for reply in (*ends, {"text": "Well."}):
            provider.reply(**reply)
        client = client_of(provider).with_options(max_retries=1, timeout=SOON_S)
        for _ in range(2):
            with suppress(openai.APITimeoutError):
                client.chat.completions.create(**ASKED)
        first, second = seen.records
    with closing(open_store(store, deliver=True)) as reader:
        stored = {call.call_id: call for call in reader.calls()}
        (sums,) = reader.summary(())
        assert isinstance(sums, Summary)
    call = stored[first.call_id]
    assert (first.may_be_billed, second.may_be_billed) == (2 if answer == "never" else 1, 0)
    assert sums.may_be_billed == call.may_be_billed == first.may_be_billed
    assert sums.calls_without_cost == (answer != "answered")
    if answer == "answered":
        assert call.cost and call.cost.estimated
        assert "a request of unknown usage may have been billed" in (call.cost.reason or "")
        assert call.cost.usd == (stored[second.call_id].cost or call.cost).usd > Decimal(0), "no bound is added"
