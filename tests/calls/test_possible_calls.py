"""Requests that other programs send too: calls once their answer shows it, and nothing at all if it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
import pytest
import requests
from tests.conftest import Instrument
from tests.support.calls import QUESTION, the_call, usage_of
from tests.support.mode import Mode
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")
SHARED: Final[dict[str, Any]] = {"model": "m-1", "messages": QUESTION, "stream": True}
"""A request that Ollama has, and other programs too."""
PATH: Final = "/api/chat"
LINES: Final = {"content-type": "application/x-ndjson"}


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def records_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_first_version_waits_for_the_first_event_that_fits(
    provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path
) -> None:
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl")
    provider.reply(text="I am quite well.", chunk_delay_s=0.05)
    with httpx.Client(base_url=provider.url) as client, client.stream("POST", PATH, json=SHARED) as response:
        handle.force_flush(HANG_MS)
        before = records_in(tmp_path / "calls.jsonl")
        pieces = response.iter_lines()
        next(pieces)
        handle.force_flush(HANG_MS)
        during = records_in(tmp_path / "calls.jsonl")
        rest = [*pieces]
    handle.force_flush(HANG_MS)
    assert (before, [record["outcome"] for record in during], len(rest) > 1) == ([], ["in_progress"], True)
    assert [record["outcome"] for record in records_in(tmp_path / "calls.jsonl")] == ["in_progress", "success"]


async def test_span_begins_with_the_request_and_has_both_sides(provider: ScriptedProvider, seen: Capture) -> None:
    provider.reply(text="I am quite well.", input_tokens=20, output_tokens=9)
    with callspan.session("trip") as session, callspan.metadata(prompt_id="p1"):
        request = httpx.Request("POST", f"{provider.url}{PATH}", json=SHARED)
        async with httpx.AsyncClient() as client:
            response = await client.send(request, stream=True)
            assert callspan.last_call_id() is None
            assert [line async for line in response.aiter_lines()]
        last = callspan.last_call_id()
    record = next(record for record in seen.records if record.api == "ollama_chat")
    span = next(span for span in seen.spans if span.name.startswith("chat"))
    assert (last, record.place.session_id, record.metadata) == (record.call_id, session.id, {"prompt_id": "p1"})
    assert (record.span_id, span.start_time) == (f"{span.context.span_id:016x}", record.timing.start_ns)
    assert f"{span.parent.span_id:016x}" == record.parent_span_id
    assert (usage_of(record).input_tokens, record.text) == (20, "I am quite well.")
    assert "How are you?" in span.attributes["gen_ai.input.messages"]
    assert "I am quite well." in span.attributes["gen_ai.output.messages"]
    assert seen.sessions[-1].totals.calls == 1


async def test_withdrawn_call_leaves_no_trace_in_its_session(provider: ScriptedProvider, seen: Capture) -> None:
    for _ in range(2):
        provider.reply(raw=b'{"ok": true}')
    with callspan.session("trip"):
        async with httpx.AsyncClient(base_url=provider.url) as client:
            responses = [await client.post(PATH, json=body) for body in (SHARED, {**SHARED, "stream": False})]
        for response in responses:
            with pytest.raises(callspan.UsageError, match="no call of this process"):
                callspan.call_id(response)
        assert callspan.last_call_id() is None
    assert (seen.records, seen.sessions[-1].totals.calls) == ([], 0)
    assert [span.name for span in seen.spans] == ["invoke_workflow trip"]


def test_stream_of_another_program_is_let_go_early(provider: ScriptedProvider, seen: Capture) -> None:
    """After some events nothing more of it is kept, whatever comes."""
    chunk = {"model": "m-1", "message": {"role": "assistant", "content": "Well."}, "done": True}
    foreign = [{"type": "text-delta", "delta": "Hi"}] * 16
    provider.reply(raw=lines(*foreign, chunk), headers=LINES)
    provider.reply(raw=lines(*foreign[1:], chunk), headers=LINES)
    for expected in ([], ["ollama_chat"]):
        with httpx.Client(base_url=provider.url) as client, client.stream("POST", PATH, json=SHARED) as response:
            response.read()
        assert [call.api for call in seen.records] == expected


def test_event_that_says_nothing_may_come_first(provider: ScriptedProvider, seen: Capture) -> None:
    chunk = {"model": "m-1", "message": {"role": "assistant", "content": "Well."}, "done": False}
    content = lines({"type": "ping"}, {"type": "ping"}, chunk, {**chunk, "done": True, "done_reason": "stop"})
    provider.reply(raw=content, headers=LINES)
    with httpx.Client(base_url=provider.url) as client, client.stream("POST", PATH, json=SHARED) as response:
        assert len([*response.iter_lines()]) == 4
    record = the_call(seen)
    assert (record.api, record.outcome, record.text) == ("ollama_chat", "success", "Well.Well.")


def test_call_that_is_known_late_is_not_the_newest(provider: ScriptedProvider, seen: Capture) -> None:
    for _ in range(2):
        provider.reply(text="Well.")
    with callspan.session("trip"), httpx.Client(base_url=provider.url) as client:
        with client.stream("POST", PATH, json=SHARED) as response:
            client.post("/v1/chat/completions", json={"model": "m-1", "messages": QUESTION})
            newest = callspan.last_call_id()
            response.read()
        assert callspan.last_call_id() == newest
    assert [call.call_id == newest for call in seen.records if call.api == "chat_completions"] == [True]
    assert len(seen.records) == 2


class Application(httpx.BaseTransport):
    """A chat of an application in this process, which asks a model, and answers in its own way."""

    def __init__(self, provider: ScriptedProvider) -> None:
        self._mode = Mode("sync", provider)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        del request
        answer = self._mode.openai().chat.completions.create(model="m-1", messages=QUESTION)
        return httpx.Response(200, text=f'0:"{answer.choices[0].message.content}"\n')


def test_purchase_of_an_application_in_this_process_is_one_call(provider: ScriptedProvider, seen: Capture) -> None:
    with callspan.session("trip"), httpx.Client(base_url="http://app", transport=Application(provider)) as client:
        client.post(PATH, json=SHARED)
    assert [(call.api, call.sdk and call.sdk.partition("/")[0]) for call in seen.records] == [
        ("chat_completions", "openai")
    ]


class Relay(httpx.BaseTransport):
    """A transport that sends a request by another HTTP client, as some lie upon each other."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with httpx.Client() as client:
            response = client.post(request.url, content=request.read(), headers={"content-type": "application/json"})
        return httpx.Response(response.status_code, content=response.content, headers=response.headers)


def test_request_that_two_clients_send_is_one_call(provider: ScriptedProvider, seen: Capture) -> None:
    provider.reply(text="Well.")
    with httpx.Client(base_url=provider.url, transport=Relay()) as client:
        client.post(PATH, json={**SHARED, "stream": False})
    assert (the_call(seen).api, the_call(seen).text) == ("ollama_chat", "Well.")


def by_httpx(url: str, body: Any, read: Callable[[Any], Any] | None) -> None:
    with httpx.Client() as client:
        if read is None:
            client.post(url, json=body)
            return
        with client.stream("POST", url, json=body) as response:
            read(response)


async def by_async_httpx(url: str, body: Any, read: Callable[[Any], Any] | None) -> None:
    async with httpx.AsyncClient() as client:
        if read is None:
            await client.post(url, json=body)
            return
        async with client.stream("POST", url, json=body) as response:
            await whole(read(response))


def by_requests(url: str, body: Any, read: Callable[[Any], Any] | None) -> None:
    with requests.Session() as session, session.post(url, json=body, stream=read is not None, timeout=HANG_S) as answer:
        if read is not None:
            read(answer)


async def by_aiohttp(url: str, body: Any, read: Callable[[Any], Any]) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        await whole(read(response))


async def whole(answer: Any) -> None:
    if hasattr(answer, "__aiter__"):
        async for _ in answer:
            pass
    elif answer is not None:
        await answer


READERS: Final[dict[str, tuple[Any, Any]]] = {
    "httpx": (by_httpx, None),
    "httpx, read": (by_httpx, lambda answer: answer.read()),
    "httpx, iter_bytes": (by_httpx, lambda answer: [*answer.iter_bytes(3)]),
    "httpx, iter_lines": (by_httpx, lambda answer: [*answer.iter_lines()]),
    "httpx, async": (by_async_httpx, None),
    "httpx, aread": (by_async_httpx, lambda answer: answer.aread()),
    "httpx, aiter_text": (by_async_httpx, lambda answer: answer.aiter_text()),
    "requests": (by_requests, None),
    "requests, content": (by_requests, lambda answer: answer.content),
    "requests, iter_content": (by_requests, lambda answer: [*answer.iter_content(3)]),
    "requests, iter_lines": (by_requests, lambda answer: [*answer.iter_lines()]),
    "requests, raw": (by_requests, lambda answer: answer.raw.read()),
    "aiohttp, read": (by_aiohttp, lambda answer: answer.read()),
    "aiohttp, text": (by_aiohttp, lambda answer: answer.text()),
    "aiohttp, content": (by_aiohttp, lambda answer: answer.content.iter_chunked(3)),
}
"""Each way of each HTTP library to read an answer to its end."""
UNREAD: Final = {
    "httpx": (by_httpx, lambda answer: answer.status_code),
    "httpx, async": (by_async_httpx, lambda _: None),
    "requests": (by_requests, lambda answer: answer.status_code),
    "aiohttp": (by_aiohttp, lambda _: None),
}
EMPTY: Final = "The body of the response is empty."
PAGE: Final = "The body of the response is a web page."
NO_ANSWERS: Final[dict[str, tuple[bytes, str, str]]] = {
    # the body, its media type, and what is said; on a path that others have too, what is none of these is another's
    "nothing": (b"", "application/json", EMPTY),
    "nothing of no type": (b"", "", EMPTY),
    "no events": (b"", "text/event-stream", EMPTY),
    "no lines": (b"\n\n", "application/x-ndjson", EMPTY),
    "a page": (b"<!DOCTYPE html><title>Log in</title>", "text/html; charset=utf-8", PAGE),
    "a page as JSON": (b"<html>Log in</html>", "application/json", PAGE),
    "a page as events": (b" \n<HTML>Log in</HTML>", "text/event-stream", PAGE),
    "a fragment": (b"<h1>Log in</h1>", "text/html", "The body of the response is not JSON."),
    "JSON that is cut": (b'{"id": "c1", "cho', "application/json", "The body of the response is not JSON."),
}
CUT: Final = ("no events", "no lines", "a page as JSON", "JSON that is cut")
"""Those that may be the start of an answer, so that they disprove nothing that the request has shown."""
FOREIGN: Final[dict[str, tuple[bytes, str, str]]] = {
    "null": (b"null", "application/json", "The body of the response is null."),
    "text": (b"upstream ok", "text/plain", "The body of the response is not JSON."),
    "a comment": (b": ping\n\n", "text/event-stream", "The body of the response has no event."),
    "an end": (b"data: [DONE]\n\n", "text/event-stream", "The body of the response has no event."),
}


async def ends_of(provider: ScriptedProvider, path: str, reader: tuple[Any, Any], stream: bool) -> Any:
    with capture() as seen:
        send, read = reader
        sent = send(f"{provider.url}{path}", {**SHARED, "stream": stream}, read)
        await whole(sent)
    return [(call.outcome, call.error and call.error.message, call.stream) for call in seen.records]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", [*NO_ANSWERS, *FOREIGN])
async def test_answer_without_json_is_said_alike_by_every_reader(
    kind: str, stream: bool, provider: ScriptedProvider
) -> None:
    content, media_type, message = (NO_ANSWERS | FOREIGN)[kind]
    provider.reply(raw=content, headers={"content-type": media_type}, repeat=True)
    for name, reader in READERS.items():
        ends = [await ends_of(provider, path, reader, stream) for path in ("/v1/chat/completions", PATH)]
        error = [("error", message, None)]
        assert (name, ends) == (name, [error if kind in CUT else [], []])


@pytest.mark.parametrize("name", UNREAD)
async def test_answer_that_nobody_reads_shows_no_call(name: str, provider: ScriptedProvider) -> None:
    """Unless the request tells, or the status."""
    for status, outcomes in ((200, ["cancelled", None]), (502, ["error", None])):
        provider.reply(raw=b'{"ok": true}', status=status)
        provider.reply(raw=b'{"ok": true}', status=status)
        ends = [await ends_of(provider, path, UNREAD[name], False) for path in ("/v1/chat/completions", PATH)]
        assert [end[0][0] if end else None for end in ends] == outcomes


PROGRAM: Final = """
import os, sys, threading, httpx, callspan
handle = callspan.instrument(stores=sys.argv[2])
body = {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
def ask(path):
    with httpx.Client(base_url=sys.argv[1], timeout=60) as client:
        client.post(path, json=body)
for path in ("/api/chat", "/v1/chat/completions"):
    threading.Thread(target=ask, args=[path], daemon=True).start()
sys.stdin.readline()
if sys.argv[3] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("end", "outcome"), [("killed", "interrupted"), ("ended", "cancelled")])
def test_process_that_ends_while_the_answer_is_awaited(
    end: str, outcome: str, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """What its request has not shown is no call."""
    provider.reply(hang=True, repeat=True)
    file = tmp_path / "calls.db"
    command = [sys.executable, "-c", PROGRAM, provider.url, f"sqlite:///{file}", end]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        until(lambda: len(provider.requests) == 2 and (end == "ended" or file.exists()))
        process.communicate(b"\n", timeout=HANG_S)
    callspan.instrument(stores=f"sqlite:///{file}").force_flush(HANG_MS)
    callspan.uninstrument()
    with callspan.open_store(f"sqlite:///{file}") as reader:
        assert [(call.api, call.outcome) for call in reader.calls()] == [("chat_completions", outcome)]


@pytest.mark.parametrize("is_call", [True, False])
def test_answer_that_comes_after_the_first_version(
    is_call: bool, provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path
) -> None:
    """A request that shows a call is there while its answer is awaited; another program's answer empties it."""
    chunk = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Well."}, "finish_reason": "stop"}]}
    file, events = tmp_path / "calls.jsonl", lines(chunk) if is_call else lines({"reply": "Well."})
    handle = instrumented(stores=f"jsonl:///{file}")

    def answer(_: httpx.Request) -> httpx.Response:
        until(lambda: handle.force_flush(HANG_MS) and records_in(file))
        return httpx.Response(200, content=events, headers=LINES)

    with httpx.Client(base_url=provider.url, transport=httpx.MockTransport(answer)) as client:
        client.post("/v1/chat/completions", json=SHARED)
    handle.force_flush(HANG_MS)
    first, *_, last = records_in(file)
    assert (first["outcome"], first["request"]["body"]["messages"]) == ("in_progress", QUESTION)
    assert first["call_id"] == last["call_id"]
    if is_call:
        assert (last["outcome"], last["request"]["body"]) == ("success", first["request"]["body"])
    else:
        assert (last["outcome"], last["request"].get("body"), last["response"]) == ("cancelled", None, {})
