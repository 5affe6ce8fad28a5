"""Requests of any code to models, by httpx and httpx2: each is one span and one record, by every API and ending."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from tests.calls.conftest import PROFILES, SOURCES, Source
from tests.conftest import Instrument
from tests.support.calls import CHAT, QUESTION, End, ask, caught, everywhere, the_call, usage_of
from tests.support.http_apis import APIS, COUNTS, Api
from tests.support.left_behind import unrecorded
from tests.support.mode import Mode
from tests.support.waiting import HANG_MS, until_async

import callspan
from callspan import AnthropicInstrumentor, HTTPInstrumentor, OpenAIInstrumentor
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")
LIBRARIES: Final = ("httpx", "httpx2")


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    return APIS[request.param]


def client_of(mode: Mode, library: str = "httpx", **options: Any) -> Any:
    package = pytest.importorskip(library, reason=f"{library} is not installed")
    kind = package.AsyncClient if mode.is_async else package.Client
    client = kind(**{"base_url": mode.provider.url, "timeout": 30, **options})
    return mode.keep(Closed(client, mode)).client


class Closed:
    """A client until the end of its test."""

    def __init__(self, client: Any, mode: Mode) -> None:
        self.client, self._mode = client, mode

    def close(self) -> Any:
        return self.client.aclose() if self._mode.is_async else self.client.close()


async def post(mode: Mode, client: Any, api: Api, *, stream: bool = False, **options: Any) -> Any:
    """The response, read; of a stream open."""
    path = (api.stream_path or api.path) if stream else api.path
    body = {**api.body, **api.stream_body} if stream else api.body
    request = client.build_request("POST", path, json=body, **options)
    return await mode.wait(client.send(request, stream=stream))


async def read(mode: Mode, response: Any, how: str) -> list[Any]:
    method = getattr(response, f"a{how}" if mode.is_async else how)()
    return [await mode.wait(method)] if how == "read" else await mode.all(method)


async def close(mode: Mode, response: Any) -> None:
    await mode.wait(response.aclose() if mode.is_async else response.close())


@pytest.mark.parametrize("library", LIBRARIES)
async def test_request_is_one_span_and_one_record(library: str, api: Api, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    response = await post(mode, client_of(mode, library), api)
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.text, record.outcome) == ("I am quite well.", "success")
    assert (record.api, record.provider, record.request.model) == (api.api, api.provider, api.model)
    assert record.sdk == f"{library}/{metadata.version(library)}"
    assert (record.server_address, [one.status for one in record.attempts]) == ("127.0.0.1", [200])
    assert (usage.input_tokens, usage.output_tokens) == (20, 9)
    assert record.stream is None
    assert bytes(record.request.body) == mode.provider.requests[0].content
    assert record.response is not None
    assert json.loads(bytes(record.response.body)) == response.json()
    assert (seen.spans[0].attributes or {})["gen_ai.request.model"] == api.model


@pytest.mark.parametrize("how", ["read", "iter_lines", "iter_bytes", "iter_text"])
async def test_stream_is_one_span_and_one_record(how: str, api: Api, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    response = await post(mode, client_of(mode), api, stream=True)
    await read(mode, response, how)
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.text, record.outcome, record.request.stream) == ("I am quite well.", "success", True)
    assert (record.api, record.provider, record.request.model) == (api.api, api.provider, api.model)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)
    assert (usage.output_tokens, record.timing.first_token_ns is not None) == (9, True)


async def test_stream_read_before_it_is_returned(api: Api, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    client = client_of(mode)
    request = client.build_request("POST", api.stream_path or api.path, json={**api.body, **api.stream_body})
    await mode.wait(client.send(request))
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.text, record.outcome, record.request.stream) == ("I am quite well.", "success", True)
    assert (usage.output_tokens, record.timing.first_token_ns, record.stream) == (9, None, None)


async def read_all(mode: Mode, response: Any) -> None:
    await read(mode, response, "iter_lines")


async def read_to(mode: Mode, response: Any, word: str) -> None:
    """Read up to a line with this word, and leave the loop."""
    async for line in mode.items(response.aiter_lines() if mode.is_async else response.iter_lines()):
        if word in line:
            break


async def leave(mode: Mode, response: Any) -> None:
    await read_to(mode, response, '" am"')


async def leave_and_close(mode: Mode, response: Any) -> None:
    await leave(mode, response)
    await close(mode, response)


async def drop(mode: Mode, response: Any) -> None:
    """Nothing is read of it."""


async def stop_at_finish(mode: Mode, response: Any) -> None:
    """Read as LiteLLM: up to the reason for which the model stopped, which the last event follows."""
    await read_to(mode, response, "end_turn")
    await close(mode, response)


LEFT: Final[dict[str, Any]] = {"outcome": "cancelled", "end": "closed", "text": "I am", "complete": False}
UNREAD: Final[dict[str, Any]] = {**LEFT, "text": ""}
BROKEN: Final[dict[str, Any]] = {"outcome": "error", "end": "error", "text": "I am", "complete": False}
SLOW: Final[dict[str, Any]] = {"chunk_delay_s": 0.02}
ENDS: dict[str, End] = {
    "read to its end": End(read_all),
    "left": End(leave, SLOW, **LEFT),
    "closed": End(leave_and_close, SLOW, **LEFT),
    "closed unread": End(close, SLOW, **UNREAD),
    "dropped unread": End(drop, SLOW, **UNREAD),
    "closed before the last event": End(stop_at_finish, SLOW, end="closed"),
    "cut by the server": End(read_all, {"cut_after": 5}, **BROKEN, kind="connection"),
    "an error in an event": End(
        read_all, {"error_after": 5, "error_type": "overloaded_error"}, **BROKEN, kind="overloaded",
    ),
    "ended without a reason": End(read_all, {"end_after": 5}, end="cut_off", text="I am", complete=False),
    "read for too long": End(
        read_all, {"chunk_delay_s": 2}, "timeout", "error", text="I", complete=False, kind="timeout",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_stream_endings(name: str, mode: Mode, seen: Capture) -> None:
    row = ENDS[name]
    mode.provider.reply(**COUNTS, **row.reply)
    client = client_of(mode, timeout=0.3 if row.kind == "timeout" else 30)
    response = await post(mode, client, APIS["messages"], stream=True)
    with suppress(Exception):
        await row.act(mode, response)
    del response
    await mode.collect()
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.complete) == (row.outcome, row.end, row.complete)
    assert (record.text or "").strip() == row.text
    assert record.error is None if row.kind is None else record.error is not None and record.error.kind == row.kind


@pytest.mark.parametrize("error_type", ["throttlingException", "TooTired"])
@pytest.mark.parametrize("name", ["chat", "gemini", "converse", "invoke"])
async def test_error_in_a_stream_is_that_of_the_call(name: str, error_type: str, mode: Mode, seen: Capture) -> None:
    """The payload decides: who reads it raises above the bytes, and closes the response."""
    mode.provider.reply(**COUNTS, error_after=3, error_type=error_type, message="slow down", status=200)
    response = await post(mode, client_of(mode), APIS[name], stream=True)
    await read(mode, response, "iter_bytes")
    record = the_call(seen)
    assert (record.outcome, record.error is not None and record.error.message) == ("error", "slow down")
    assert record.error is not None
    assert record.error.type == error_type
    assert record.stream is not None
    assert record.stream.end == "error"


async def test_cancelled_request(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(hang=True)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(post(mode, client_of(mode), APIS["chat"]), 0.2)
    assert the_call(seen).outcome in ("cancelled", "timeout")


@pytest.mark.parametrize("act", ["read at once", "read", "close", "drop"])
async def test_status_is_the_error_whatever_is_read(act: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=429, message="Slow down", retry_after_s=7)
    response = await post(mode, client_of(mode), APIS["chat"], stream=act != "read at once")
    if act == "read":
        await read(mode, response, "read")
    elif act == "close":
        await close(mode, response)
    del response
    await mode.collect()
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.stream, record.rate_limited) == ("error", None, True)
    assert (record.error.kind, record.error.status) == ("rate_limit", 429)
    assert record.error.message == ("Slow down" if act.startswith("read") else None)
    assert [(one.status, one.retry_after_s) for one in record.attempts] == [(429, 7.0)]


async def test_no_connection_is_an_error(mode: Mode, seen: Capture) -> None:
    client = client_of(mode, base_url="http://127.0.0.1:9")
    error = await caught(post(mode, client, APIS["chat"]))
    record = the_call(seen)
    assert type(error).__name__ == "ConnectError"
    assert record.error is not None
    assert (record.outcome, record.error.kind, len(record.attempts)) == ("error", "connection", 1)


async def test_array_of_chunks_is_one_answer(mode: Mode, seen: Capture) -> None:
    """`streamGenerateContent` without `alt=sse`."""
    part = {"candidates": [{"content": {"role": "model", "parts": [{"text": "I am"}]}}]}
    last = {
        "candidates": [{"content": {"parts": [{"text": " well."}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 9, "totalTokenCount": 29},
    }
    for _ in range(2):
        mode.provider.reply(raw=json.dumps([part, last]).encode())
    gemini = APIS["gemini"]._replace(stream_path="/v1beta/models/gemini-2.5-flash:streamGenerateContent")
    client = client_of(mode)
    await read(mode, await post(mode, client, gemini, stream=True), "iter_bytes")
    request = client.build_request("POST", gemini.stream_path, json=gemini.body)
    await mode.wait(client.send(request))
    assert [(call.text, call.outcome, usage_of(call).output_tokens) for call in seen.records] == [
        ("I am well.", "success", 9)
    ] * 2


@pytest.mark.parametrize("opened", [True, False], ids=["open", "read"])
async def test_stream_without_a_content_type(opened: bool, api: Api, mode: Mode, seen: Capture) -> None:
    """As many gateways of their own send it."""

    def untyped(response: Any) -> None:
        response.headers.pop("content-type", None)

    async def async_untyped(response: Any) -> None:
        untyped(response)

    mode.provider.reply(**COUNTS)
    client = client_of(mode, event_hooks={"response": [async_untyped if mode.is_async else untyped]})
    path, body = api.stream_path or api.path, {**api.body, **api.stream_body}
    response = await mode.wait(client.send(client.build_request("POST", path, json=body), stream=opened))
    if opened:
        await read(mode, response, "iter_bytes")
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.text, record.outcome, record.error) == ("I am quite well.", "success", None)
    assert (usage.input_tokens, usage.output_tokens) == (20, 9)


WHOLE: Final = {
    "id": "c", "object": "chat.completion", "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Well."}}],
}  # fmt: skip


@pytest.mark.parametrize("opened", [True, False], ids=["open", "read"])
@pytest.mark.parametrize("indent", [None, 2], ids=["a line", "indented"])
async def test_whole_answer_in_place_of_a_stream(indent: int | None, opened: bool, mode: Mode, seen: Capture) -> None:
    """Of a gateway that does not stream, and calls its JSON text."""
    mode.provider.reply(raw=json.dumps(WHOLE, indent=indent).encode(), headers={"content-type": "text/plain"})
    client, chat = client_of(mode), APIS["chat"]
    request = client.build_request("POST", chat.path, json={**chat.body, "stream": True})
    response = await mode.wait(client.send(request, stream=opened))
    if opened:
        await read(mode, response, "iter_bytes")
    record = the_call(seen)
    assert (record.text, record.outcome, record.error) == ("Well.", "success", None)
    assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (20, 9)


async def read_raw(mode: Mode, response: Any) -> None:
    """Read as a reverse proxy."""
    pieces = await read(mode, response, "iter_raw")
    assert b"message_stop" in b"".join(pieces)


async def read_stream(mode: Mode, response: Any) -> None:
    """Read the stream of the response itself, which nobody closes."""
    pieces = await mode.all(response.stream)
    assert b"message_stop" in b"".join(pieces)


async def leave_raw(mode: Mode, response: Any) -> None:
    async for _ in mode.items(response.aiter_raw() if mode.is_async else response.iter_raw()):
        break
    await close(mode, response)


RAW_ENDS: Final = {
    "read": End(read_raw),
    "read by its stream": End(read_stream),
    "left": End(leave_raw, SLOW, "cancelled", "closed"),
    "cut by the server": End(read_raw, {"cut_after": 5}, "error", "error", kind="connection"),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", RAW_ENDS)
async def test_raw_bytes_are_passed_on_and_not_read(name: str, library: str, mode: Mode, seen: Capture) -> None:
    row = RAW_ENDS[name]
    mode.provider.reply(**COUNTS, **row.reply)
    response = await post(mode, client_of(mode, library), APIS["messages"], stream=True)
    with suppress(Exception):
        await row.act(mode, response)
    record = the_call(seen)
    assert record.response is not None
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.response.unread) == (row.outcome, row.end, True)
    assert (record.usage, record.text) == (None, None)
    assert record.error is None if row.kind is None else record.error is not None and record.error.kind == row.kind
    assert (seen.spans[0].attributes or {})["callspan.response.unread"] is True


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("how", ["iter_bytes", "iter_raw"])
async def test_reader_may_stop_after_the_last_byte(how: str, library: str, mode: Mode, seen: Capture) -> None:
    """Which the length of the answer tells: who has read it all does not ask for more."""
    mode.provider.reply(**COUNTS)
    response = await post(mode, client_of(mode, library), APIS["chat"]._replace(stream_body={}), stream=True)
    left = int(response.headers["content-length"])
    async for piece in mode.items(getattr(response, f"a{how}" if mode.is_async else how)()):
        left -= len(piece)
        if left == 0:
            break
    await close(mode, response)
    record = the_call(seen)
    assert record.response is not None
    assert (record.outcome, record.response.unread) == ("success", how == "iter_raw")
    assert record.text == (None if how == "iter_raw" else "I am quite well.")


BODIES: Final[dict[str, dict[str, Any]]] = {
    "events": COUNTS,
    "gzip": {**COUNTS, "gzip": True},
    "JSON": {"raw": json.dumps(WHOLE).encode(), "headers": {"content-type": "application/json"}},
}


@pytest.mark.parametrize("left", ["closed", "dropped"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "cut"])
@pytest.mark.parametrize("of", ["chat", "messages", "gemini", "converse"])
async def test_raw_bytes_that_were_read_to_the_last_are_whole(
    of: str, is_whole: bool, name: str, left: str, mode: Mode, seen: Capture
) -> None:
    """Whether or not the reader knows that nothing follows: no length is stated."""
    api = APIS[of]
    mode.provider.reply(**BODIES[name], chunk_delay_s=0.01, repeat=True)
    client = client_of(mode)
    response = await post(mode, client, api, stream=True)
    size = len(b"".join(await read(mode, response, "iter_raw")))
    if not is_whole:
        size = size // 2
    if name == "JSON" and not is_whole:
        pytest.skip("it comes in one piece")
    response, received = await post(mode, client, api, stream=True), 0
    pieces = response.aiter_raw() if mode.is_async else response.iter_raw()
    async for piece in mode.items(pieces):
        received += len(piece)
        if received >= size:
            break
    if left == "closed":
        await close(mode, response)
    del response, pieces
    await mode.collect()
    await until_async(lambda: len(seen.records) == 2)
    record = seen.records[-1]
    assert record.response is not None
    assert (record.outcome, record.text) == ("success" if is_whole else "cancelled", None)
    assert record.response.unread


LOOK_ALIKES: dict[str, dict[str, Any]] = {
    "another path": {"url": "/v1/chat/messages", "json": APIS["chat"].body},
    "no model": {"url": "/v1/chat/completions", "json": {"messages": QUESTION}},
    "no field of the API": {"url": "/v1/completions", "json": {"model": "m-1", "text": "How are you?"}},
    "no object": {"url": "/v1/chat/completions", "json": [APIS["chat"].body]},
    "no JSON": {"url": "/v1/chat/completions", "content": b"model=m-1"},
    "nothing": {"url": "/v1/chat/completions"},
    "the tokens of a request": {
        "url": "/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
        "json": {"model": "m-1", "messages": QUESTION, "anthropic_version": "vertex-2023-10-16"},
    },
    "a model that was trained for something else": {
        "url": "/v1/projects/p/locations/l/endpoints/7:predict", "json": {"instances": [{"age": 7}]},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_look_alike_is_no_call(name: str, mode: Mode, seen: Capture) -> None:
    client, stated = client_of(mode), LOOK_ALIKES[name]
    await mode.wait(client.post(**stated))
    await mode.wait(client.put(**stated))
    assert seen.everything == []


MISTRAL_SPEECH: Final[dict[str, tuple[str, bytes]]] = {
    "plain": ("application/json", b'{"audio_data": "SUQzIGEgc291bmQ="}'),
    "stream": (
        "text/event-stream",
        b'data: {"type": "speech.audio.delta", "audio_data": "SUQzIGEg"}\n\n'
        b'data: {"type": "speech.audio.delta", "audio_data": "c291bmQ="}\n\n'
        b'data: {"type": "speech.audio.done", "usage": {"prompt_tokens": 20, "completion_tokens": 9}}\n\n',
    ),
}


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", MISTRAL_SPEECH)
async def test_speech_of_mistral_is_a_reference(name: str, opened: bool, mode: Mode, seen: Capture) -> None:
    mime, content = MISTRAL_SPEECH[name]
    mode.provider.reply(raw=content, headers={"content-type": mime}, on="/audio/speech")
    client, body = client_of(mode), {"model": "voxtral-tts", "input": "Hello", "stream": name == "stream"}
    request = client.build_request("POST", "/v1/audio/speech", json=body)
    await read(mode, await mode.wait(client.send(request, stream=opened)), "iter_bytes")
    record = the_call(seen)
    assert record.response is not None
    assert (record.api, record.outcome, record.error, record.response.unrecognized) == (
        "speech",
        "success",
        None,
        False,
    )
    assert b'"bytes":11' in bytes(record.response.body)
    assert b"SUQz" not in bytes(record.response.body)
    if name == "stream":
        assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (20, 9)


OTHER_TASKS: Final[dict[str, tuple[str, bytes]]] = {
    "vectors": ("application/json", b"[[0.5, 0.25]]"),
    "labels": ("application/json", b'[[{"label": "joy", "score": 0.75}]]'),
    "nothing": ("application/json", b"[]"),
    "an image": ("image/png", b"\x89PNG\r\n\x1a\n"),
    "sound": ("audio/flac", b"fLaC"),
}


@pytest.mark.usefixtures("unwarned")
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("name", OTHER_TASKS)
async def test_answer_of_another_kind_is_no_error(name: str, opened: bool, mode: Mode, seen: Capture) -> None:
    """Hugging Face's servers answer any task at the path of a model."""
    mime, content = OTHER_TASKS[name]
    mode.provider.reply(raw=content, headers={"content-type": mime}, on="/models/owner/m-1")
    client = client_of(mode)
    headers = {"user-agent": "unknown/None; hf_hub/2.4.0; python/3.11"}
    request = client.build_request("POST", "/models/owner/m-1", json={"inputs": "A cat"}, headers=headers)
    response = await mode.wait(client.send(request, stream=opened))
    assert b"".join(await read(mode, response, "iter_bytes")) == content
    record = the_call(seen)
    assert record.response is not None
    assert (record.outcome, record.error, record.usage) == ("success", None, None)
    assert bytes(record.response.body) == (content.replace(b" ", b"") if mime.endswith("json") else b"")


@pytest.mark.parametrize("opened", [False, True])
async def test_speech_is_a_reference(opened: bool, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw=b"ID3 a sound", headers={"content-type": "audio/mpeg"}, on="/audio/speech")
    client = client_of(mode)
    request = client.build_request("POST", "/v1/audio/speech", json={"model": "tts-1", "input": "Hello", "voice": "v"})
    await read(mode, await mode.wait(client.send(request, stream=opened)), "iter_bytes")
    record = the_call(seen)
    assert record.response is not None
    assert (record.api, record.outcome, record.error) == ("speech", "success", None)
    assert b'"bytes":11' in bytes(record.response.body)


MISTRAL: Final = "speakeasy-sdk/python 3.7.0 2.935.1 1.0.0 mistralai"


OF_PROVIDERS: Final = {
    MISTRAL: (
        "/v1/conversations", "/v1/conversations/conv_1/restart", "/v1/conversations/conv_1", "/v1/ocr",
        "/v1/batch/jobs",
    ),
    "cohere/7.3.1": ("/v1/generate", "/v1/classify", "/v1/summarize"),
    "unknown/None; hf_hub/2.4.0; python/3.11": ("/hf-inference/models/owner/m-1/pipeline/feature-extraction",),
}  # fmt: skip
"""The paths of providers that are not read, by the user agents of their SDKs."""


@pytest.mark.usefixtures("unwarned")
async def test_requests_without_a_reader_are_counted(mode: Mode, store: str, instrumented: Instrument) -> None:
    """A path that an application may have too counts for the provider alone that has it."""
    handle = instrumented(stores=store)
    paths = [path for of_provider in OF_PROVIDERS.values() for path in of_provider]
    client, others = client_of(mode), ("/v1/batch/jobs/job_1/cancel", "/v1/ours")
    for user_agent in (*OF_PROVIDERS, "ours/1.0"):
        for path in (*paths, *others, "/v1beta/models/gemini-2.5-flash:batchGenerateContent"):
            await mode.wait(client.post(path, json={"model": "m-1"}, headers={"user-agent": user_agent}))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    names = [
        path.replace("conv_1", "{id}").replace("owner/m-1", "{id}").removeprefix("/hf-inference") for path in paths
    ]
    counts = dict.fromkeys((f"POST {name}" for name in names), 1)
    assert unrecorded(store) == {**counts, "POST models/{id}:batchGenerateContent": len(OF_PROVIDERS) + 1}


@pytest.mark.usefixtures("unwarned")
async def test_form_is_counted(mode: Mode, store: str, instrumented: Instrument) -> None:
    handle = instrumented(stores=store)
    client = client_of(mode)
    for user_agent in (MISTRAL, "ours/1.0"):
        sound, headers = {"file": ("a.wav", b"RIFF")}, {"user-agent": user_agent}
        await mode.wait(client.post("/v1/audio/transcriptions", data={"model": "m-1"}, files=sound, headers=headers))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {"POST /v1/audio/transcriptions": 1}


@pytest.mark.parametrize("name", ["chat", "embed", "rerank"])
async def test_provider_that_chooses_the_model_is_recorded(name: str, mode: Mode, seen: Capture) -> None:
    body = {"chat": {"message": "Hi"}, "embed": {"texts": ["Hi"]}, "rerank": {"query": "Hi", "documents": ["a"]}}[name]
    for user_agent in ("cohere/7.3.1", "ours/1.0"):
        await mode.wait(client_of(mode).post(f"/v1/{name}", json=body, headers={"user-agent": user_agent}))
    record = the_call(seen)
    assert (record.provider, record.sdk, record.outcome) == ("cohere", "cohere/7.3.1", "success")
    assert record.request is not None
    assert record.request.model is None


@pytest.mark.usefixtures("unwarned")
async def test_work_that_a_provider_does_later_is_counted_as_by_its_sdk(
    mode: Mode, store: str, instrumented: Instrument
) -> None:
    handle = instrumented(stores=store)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "x"}))
    client = client_of(mode, transport=transport)
    for host in ("https://api.openai.com", "https://gateway.example"):
        for path in ("/v1/batches", "/v1/videos", "/v1/threads/thread_1/runs", "/v1/batches/batch_1/cancel"):
            await mode.wait(client.post(f"{host}{path}", json={"model": "m-1"}))
    await mode.wait(client.post("https://api.groq.com/openai/v1/batches", json={}))
    await mode.wait(client.post("https://api.anthropic.com/v1/messages/batches", json={}))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {
        "POST /v1/batches": 2, "POST /v1/videos": 1, "POST /v1/threads/{id}/runs": 1, "POST /v1/messages/batches": 1,
    }  # fmt: skip


OPENAI, VERTEX = "https://api.openai.com/v1", "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l"
COUNTED: Final = {
    f"{OPENAI}/images/edits": {"model": "m-1", "images": [{"image_url": "https://example.com/a.png"}]},
    f"{OPENAI}/audio/transcriptions": {"model": "m-1", "audio_url": "https://example.com/a.wav"},
    f"{OPENAI}/chat/completions": {"model": "m-1"},
    f"{OPENAI}/anything/new": {"model": "m-1"},
    "https://api.x.ai/v1/chat/completions": {
        "model": "m-1",
        "messages": [{"role": "user", "content": "Hi"}],
        "deferred": True,
    },
    "https://api.voyageai.com/v1/multimodalembeddings": {"model": "m-1", "inputs": [{"content": []}]},
    "https://api.cohere.com/v1/classify": {"inputs": ["a"]},
    "https://api.jina.ai/v1/classify": {"model": "m-1", "input": ["a"]},
    "https://bedrock-agent-runtime.us-east-1.amazonaws.com/rerank": {"queries": [], "sources": []},
    f"{VERTEX}/batchPredictionJobs": {"model": "m-1"},
}
"""Requests that callspan does not read."""
FREE: Final = (
    f"{OPENAI}/files", f"{OPENAI}/responses/input_tokens", f"{OPENAI}/batches/batch_1/cancel",
    "https://api.anthropic.com/v1/messages/count_tokens", "https://api.cohere.com/v1/tokenize",
    "https://generativelanguage.googleapis.com/v1beta/models/m-1:countTokens",
    "https://generativelanguage.googleapis.com/upload/v1beta/files",
    f"{VERTEX}/publishers/anthropic/models/count-tokens:rawPredict",
    "https://a.snowflakecomputing.com/api/v2/statements", "https://example.com/v1/anything/new",
)  # fmt: skip


@pytest.mark.usefixtures("unwarned")
async def test_what_is_not_read_at_the_host_of_a_provider_is_counted(
    mode: Mode, store: str, instrumented: Instrument
) -> None:
    handle = instrumented(stores=store)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "x"}))
    client = client_of(mode, transport=transport)
    for url, body in COUNTED.items():
        await mode.wait(client.post(url, json=body))
    for url in FREE:
        await mode.wait(client.post(url, json={"model": "m-1"}))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert sum(unrecorded(store).values()) == len(COUNTED), unrecorded(store)


async def test_only_xai_defers_completions(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    chat = APIS["chat"]
    await post(mode, client_of(mode), chat._replace(body={**chat.body, "deferred": True}))
    assert (the_call(seen).text, the_call(seen).outcome) == ("I am quite well.", "success")


async def test_upload_that_is_read_while_it_is_sent_is_no_call(mode: Mode, seen: Capture) -> None:
    def pieces() -> Any:
        yield json.dumps(APIS["chat"].body).encode()

    async def pieces_async() -> Any:
        yield json.dumps(APIS["chat"].body).encode()

    mode.provider.reply(**COUNTS)
    content = pieces_async() if mode.is_async else pieces()
    response = await mode.wait(client_of(mode).post(APIS["chat"].path, content=content))
    assert (response.json()["choices"][0]["message"]["content"], seen.everything) == ("I am quite well.", [])


async def test_redirected_request_is_one_call(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=307, raw=b"", headers={"location": "/v1/chat/completions"})
    mode.provider.reply(**COUNTS)
    client = client_of(mode, follow_redirects=True)
    await post(mode, client, APIS["chat"]._replace(path="/old/v1/chat/completions"))
    assert (the_call(seen).text, len(mode.provider.requests)) == ("I am quite well.", 2)


ANSWER: Final = {"choices": [{"message": {"role": "assistant", "content": "Well."}, "finish_reason": "stop"}]}
SENDERS: dict[str, tuple[str, str, str, str | None, str]] = {
    # the user agent, the URL, the API; the SDK and the provider
    "mistralai": ("speakeasy-sdk/python 3.7.0 2.935.1 1.0.0 mistralai", "", "chat", "mistralai/3.7.0", "mistral_ai"),
    "an older mistralai": ("mistral-client-python/1.2.3", "", "chat", "mistralai/1.2.3", "mistral_ai"),
    "huggingface_hub": ("unknown/None; hf_hub/2.4.0; python/3.11", "", "chat", "huggingface_hub/2.4.0", "huggingface"),
    "litellm": ("litellm/1.110.2", "", "messages", "litellm/1.110.2", "anthropic"),
    "one with a name": ("ours/1.0 (linux)", "", "chat", "ours/1.0", "unknown"),
    "one without a version": ("Mozilla", "", "chat", None, "unknown"),
    "another SDK generated alike": ("AsyncOther/Python 2.3.1", "", "chat", "Other/2.3.1", "unknown"),
    "one of those with a provider": ("Writer/Python 3.0.0", "", "chat", "writer-sdk/3.0.0", "writer"),
    "a known host": ("ours/1.0", "https://api.deepseek.com", "chat", "ours/1.0", "deepseek"),
    "a known host before the SDK": (
        "mistral-client-python/1.2.3", "https://api.groq.com/openai", "chat", "mistralai/1.2.3", "groq",
    ),
    "a known port": ("ours/1.0", "http://localhost:11434", "chat", "ours/1.0", "ollama"),
    "bedrock": ("ours/1.0", "https://bedrock-runtime.us-east-1.amazonaws.com", "invoke", "ours/1.0", "aws.bedrock"),
}  # fmt: skip


@pytest.mark.parametrize("name", SENDERS)
async def test_sender_and_host_name_sdk_and_provider(name: str, mode: Mode, seen: Capture) -> None:
    user_agent, url, api, sdk, provider = SENDERS[name]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=ANSWER))
    client = client_of(mode, base_url=url or mode.provider.url, transport=transport)
    generated = {"x-stainless-lang": "python"} if "/Python " in user_agent else {}
    await post(mode, client, APIS[api], headers={"user-agent": user_agent, **generated})
    record = the_call(seen)
    assert (record.sdk, record.provider) == (sdk, provider)


OF_SDKS: Final = {
    "openai": {"user-agent": "OpenAI/Python 2.1.0", "x-stainless-lang": "python"},
    "anthropic": {"user-agent": "AsyncAnthropic/Python 1.0.0", "x-stainless-lang": "python"},
    "google": {"user-agent": "google-genai-sdk/1.56.0 gl-python/3.11"},
    "google, an interaction": {"user-agent": "speakeasy-sdk/python 2.4.1 internal v1beta google-genai"},
    "bedrock": {"user-agent": "Boto3/1.44"},
}
"""What a reverse proxy passes on of its clients, by what they are."""


@pytest.mark.parametrize("is_left_out", [False, True])
@pytest.mark.parametrize("name", OF_SDKS)
async def test_headers_of_an_sdk_say_nothing_of_this_process_unless_it_was_left_out(
    name: str, is_left_out: bool, mode: Mode
) -> None:
    sdk = name.partition(",")[0]
    pytest.importorskip(PROFILES[sdk].anchor, reason=f"{sdk} is not installed")
    sources: list[Source] = [one for one in SOURCES if not (is_left_out and one == sdk)]
    mode.provider.reply(**COUNTS)
    with capture(sdks=sources) as seen:
        await post(mode, client_of(mode), APIS["chat"], headers=OF_SDKS[name])
        assert [record.text for record in seen.records] == ([] if is_left_out else ["I am quite well."])


async def test_ranking_at_an_unknown_host_has_an_unknown_provider(mode: Mode, seen: Capture) -> None:
    ranking = Api("/v1/rerank", {"model": "m-1", "query": "q", "documents": ["a"]}, "rerank", "m-1", "unknown")
    await post(mode, client_of(mode), ranking)
    assert (the_call(seen).api, the_call(seen).provider) == ("rerank", "unknown")


KEYS: Final = tuple(f"canary-of-a-{place}" for place in ("header", "query", "signature", "token", "path"))


@pytest.mark.parametrize("status", [200, 400])
async def test_keys_and_queries_are_nowhere(status: int, stream: bool, mode: Mode, seen: Capture) -> None:
    for name in ("gemini", "chat", "converse"):
        api = APIS[name]
        mode.provider.reply(**{**COUNTS, "status": status, "message": "The key is not valid"})
        headers = {
            "x-goog-api-key": KEYS[0], "authorization": f"AWS4-HMAC-SHA256 Credential=AKIA/x, Signature={KEYS[2]}",
            "x-amz-security-token": KEYS[3], "api-key": KEYS[3],
        }  # fmt: skip
        path = (api.stream_path or api.path) if stream else api.path
        keyed = f"/{KEYS[4]}{path}{'&' if '?' in path else '?'}key={KEYS[1]}&sig={KEYS[2]}"
        api = api._replace(path=keyed, stream_path=keyed)
        response = await post(mode, client_of(mode), api, stream=stream, headers=headers)
        if stream:
            await read(mode, response, "read")
        assert KEYS[1] in mode.provider.requests[-1].query.values()
    assert len(seen.records) == 3
    text = everywhere(seen)
    assert [key for key in (*KEYS, "AWS4-HMAC") if key in text] == []


async def test_exception_of_an_event_hook_names_no_url(mode: Mode, seen: Capture) -> None:
    async def check_async(response: httpx.Response) -> None:
        response.raise_for_status()

    mode.provider.reply(status=401)
    check = check_async if mode.is_async else httpx.Response.raise_for_status
    api = APIS["chat"]._replace(path=f"{APIS['chat'].path}?x={KEYS[1]}")
    error = await caught(post(mode, client_of(mode, event_hooks={"response": [check]}), api))
    record = the_call(seen)
    assert record.error is not None
    assert (KEYS[1] in str(error), record.error.kind, record.error.status) == (True, "auth", 401)
    assert KEYS[1] not in everywhere(seen)


async def test_levels_and_sessions_hold(mode: Mode, seen: Capture) -> None:
    client = client_of(mode)
    with callspan.session("trip"), callspan.content("metadata"):
        await post(mode, client, APIS["chat"])
    (record,) = seen.records
    assert (record.place.session_name, record.content_level, bytes(record.request.body)) == ("trip", "metadata", b"")
    assert usage_of(record).input_tokens == 12


async def test_requests_of_a_hooked_sdk_are_its_attempts(mode: Mode, stream: bool, seen: Capture) -> None:
    for _ in range(2):
        mode.provider.reply(status=429, retry_after_s=0.001)
        mode.provider.reply(**COUNTS)
    for client in (mode.openai(max_retries=1), mode.anthropic(max_retries=1)):
        await mode.whole(ask(client, stream=stream))
    assert [[one.status for one in call.attempts] for call in seen.records] == [[429, 200]] * 2


class Forwarding(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An application in this process that answers requests with those of an SDK, and of another client."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._mode.openai().chat.completions.create(**CHAT)
        return httpx.post(f"{self._mode.provider.url}{request.url.path}", content=request.content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._mode.openai().chat.completions.create(**CHAT)
        response = await client_of(self._mode).post(request.url.path, content=request.content)
        return httpx.Response(response.status_code, json=response.json())


async def test_nothing_below_a_call_is_counted_again(mode: Mode, seen: Capture) -> None:
    client = client_of(mode, transport=Forwarding(mode))
    mode.provider.reply(text="Of the SDK.")
    mode.provider.reply(text="Of the other client.")
    await post(mode, client, APIS["chat"])
    call = the_call(seen)
    assert (call.request.model, call.text, len(mode.provider.requests)) == ("m-1", "Of the other client.", 2)
    await mode.wait(ask(mode.openai()))
    assert [len(call.attempts) for call in seen.records] == [1, 1]


@pytest.mark.parametrize("by", ["other code", "openai"])
async def test_task_that_outlives_the_request_that_started_it_is_recorded(
    provider: ScriptedProvider, by: str, seen: Capture
) -> None:
    mode, tasks = Mode("async", provider), []

    async def later() -> None:
        await released.wait()
        await ask(mode.openai())
        await post(mode, client_of(mode), APIS["chat"])

    class Starting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            tasks.append(asyncio.ensure_future(later()))
            return httpx.Response(200, json=ANSWER)

    released = asyncio.Event()
    client = client_of(mode, transport=Starting())
    await (post(mode, client, APIS["chat"]) if by == "other code" else ask(mode.openai(http_client=client)))
    released.set()
    await tasks[0]
    assert len(seen.records) == 3
    await mode.close()


CHOICES: dict[str, tuple[dict[str, Any], set[str]]] = {
    # the arguments of `instrument()`, and what is recorded
    "everything": ({}, {"other code", "openai", "anthropic"}),
    "not other code": ({"http": False}, {"openai", "anthropic"}),
    "one SDK": ({"sdks": "openai"}, {"openai"}),
    "one SDK and other code": ({"sdks": ["openai", "http"]}, {"openai", "other code"}),
    "one SDK, with the setting": ({"sdks": "openai", "http": True}, {"openai", "other code"}),
    "other code alone": ({"sdks": "http"}, {"other code"}),
    "nothing": ({"enabled": False}, set()),
}


async def recorded(mode: Mode, calls: Path) -> set[str]:
    for client in (mode.openai(), mode.anthropic()):
        await mode.wait(ask(client))
    await post(mode, client_of(mode), APIS["chat"])
    callspan.instrument().force_flush(30_000)
    return sources_in(calls)


def sources_in(calls: Path) -> set[str]:
    lines = calls.read_text().splitlines() if calls.exists() else []
    sdks = {str(json.loads(line)["sdk"]).partition("/")[0] for line in lines}
    return {"other code" if sdk == "httpx" else sdk for sdk in sdks}


@pytest.mark.parametrize("name", CHOICES)
async def test_a_choice_is_never_widened(name: str, mode: Mode, instrumented: Instrument, tmp_path: Path) -> None:
    arguments, expected = CHOICES[name]
    instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", **arguments)
    assert await recorded(mode, tmp_path / "calls.jsonl") == expected


class Derived(openai.OpenAI):
    """A client of the application's, whose name is in its user agent."""


@pytest.mark.parametrize(
    ("sdks", "expected"), [(["anthropic", "http"], set()), (["openai", "anthropic", "http"], {"openai", "Other"})]
)
def test_client_derived_from_one_left_out_stays_unrecorded(
    sdks: list[str], expected: set[str], provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path
) -> None:
    instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", sdks=[*sdks, "groq", "together", "fireworks", "cerebras"])
    with Derived(api_key="k", base_url=provider.openai_url) as client:
        client.chat.completions.create(**CHAT)
    httpx.post(
        f"{provider.openai_url}/chat/completions", json=CHAT,
        headers={"user-agent": "Other/Python 2.3.1", "x-stainless-lang": "python"},
    )  # fmt: skip
    callspan.instrument().force_flush(30_000)
    assert sources_in(tmp_path / "calls.jsonl") == expected


async def test_other_code_can_be_left_out_later(mode: Mode, instrumented: Instrument, tmp_path: Path) -> None:
    instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl")
    instrumented(http=False)
    assert await recorded(mode, tmp_path / "calls.jsonl") == {"openai", "anthropic"}
    assert {hook.sdk for hook in callspan.patch_status()}.isdisjoint({"http"})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"other code", "openai", "anthropic"}),
        ({"CALLSPAN_HTTP": "off"}, {"openai", "anthropic"}),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "callspan-http"}, {"openai", "anthropic"}),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "callspan-openai"}, {"anthropic"}),
        (
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "callspan-openai", "CALLSPAN_HTTP": "on"},
            {"anthropic", "other code"},
        ),
    ],
)
async def test_environment_chooses_instrumentors(
    variables: dict[str, str], expected: set[str], mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `opentelemetry-instrument` does."""
    for name, value in {**variables, "CALLSPAN_STORES": f"jsonl:///{tmp_path}/calls.jsonl"}.items():
        monkeypatch.setenv(name, value)
    disabled = variables.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    kinds = {"openai": OpenAIInstrumentor, "anthropic": AnthropicInstrumentor, "http": HTTPInstrumentor}
    enabled = [kind for name, kind in kinds.items() if f"callspan-{name}" not in disabled]
    try:
        for kind in enabled:
            kind().instrument(skip_dep_check=True)
        assert await recorded(mode, tmp_path / "calls.jsonl") == expected
    finally:
        callspan.uninstrument()
        for kind in enabled:
            kind().uninstrument()


async def test_one_instrumentor_alone(mode: Mode, instrumented: Instrument, tmp_path: Path) -> None:
    OpenAIInstrumentor().instrument(stores=f"jsonl:///{tmp_path}/calls.jsonl")
    try:
        assert await recorded(mode, tmp_path / "calls.jsonl") == {"openai"}
        HTTPInstrumentor().instrument()
        assert await recorded(mode, tmp_path / "calls.jsonl") == {"openai", "other code"}
        HTTPInstrumentor().uninstrument()
        assert {hook.sdk for hook in callspan.patch_status()} == {"openai"}
    finally:
        OpenAIInstrumentor().uninstrument()
