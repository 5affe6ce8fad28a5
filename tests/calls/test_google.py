"""google-genai: one span and one record for each request that its client sends, by every way and ending."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
import wrapt
from tests.calls.google_clients import MODEL, client_of, part_of, vertex_client
from tests.conftest import Instrument
from tests.support.calls import End, body_returned, caught, the_call, usage_of
from tests.support.left_behind import unrecorded
from tests.support.mode import Mode
from tests.support.processes import ran
from tests.support.waiting import HANG_MS

import callspan
from callspan.records import EventRecord, SessionRecord
from callspan.testing import Capture, ScriptedProvider, capture

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")
types: Any = pytest.importorskip("google.genai.types")

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    # aiohttp warns of the class that the SDK derives from its session.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]
ASK: Final[dict[str, Any]] = {"model": MODEL, "contents": "How are you?"}
RETRIES: Final = {"attempts": 3, "initial_delay": 0.001, "max_delay": 0.002, "jitter": 0.0}
COUNTS: Final[dict[str, Any]] = {
    "text": "I am quite well.", "reasoning": "Hm, well.", "input_tokens": 20, "output_tokens": 9, "reasoning_tokens": 5,
    "cache_read_tokens": 4,
}  # fmt: skip


async def answered(mode: Mode, client: Any, **given: Any) -> Any:
    return await mode.wait(client.models.generate_content(**{**ASK, **given}))


async def streamed(mode: Mode, client: Any, **given: Any) -> Any:
    return await mode.wait(client.models.generate_content_stream(**{**ASK, **given}))


async def test_plain_call_is_one_span_and_one_record(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    config = {"temperature": 0.5, "max_output_tokens": 64, "stop_sequences": ["!"], "candidate_count": 1}
    answer = await mode.wait(client_of(mode).models.generate_content(**ASK, config=config))
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (answer.text, record.text) == ("I am quite well.", "I am quite well.")
    assert (record.api, record.operation, record.provider) == ("generate_content", "generate_content", "gcp.gemini")
    assert record.sdk == f"google-genai/{metadata.version('google-genai')}"
    assert (record.outcome, record.retries, [one.status for one in record.attempts]) == ("success", 0, [200])
    assert (record.request.model, record.response and record.response.model) == (MODEL, MODEL)
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.truncated) == (["STOP"], False)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (20, 9, 29)
    assert (usage.reasoning_tokens, usage.cache_read_tokens, usage.input_text_tokens) == (5, 4, 20)
    assert not usage.estimated
    assert record.timing.server_ns == 5_000_000
    attributes = seen.spans[0].attributes or {}
    assert seen.spans[0].name == f"generate_content {MODEL}"
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.max_tokens"]) == ("gcp.gemini", 64)
    assert (attributes["gen_ai.request.temperature"], attributes["gen_ai.request.stop_sequences"]) == (0.5, ("!",))


@pytest.mark.parametrize("name", ["generate_content", "generate_content_stream", "send_message", "send_message_stream"])
def test_wrong_argument_raises_as_without_callspan(name: str, mode: Mode) -> None:
    def wrongly_called() -> tuple[bool, str]:
        client = client_of(mode)
        owner = client.chats.create(model=MODEL) if name.startswith("send") else client.models
        method = getattr(owner, name)
        with pytest.raises(TypeError) as caught_error:
            method(nonsense=1)
        return inspect.iscoroutinefunction(method), str(caught_error.value)

    plain = wrongly_called()
    with capture() as seen:
        assert wrongly_called() == plain
    assert seen.everything == []


async def test_record_does_not_contain_the_key(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=400, message="API key not valid")
    assert await caught(answered(mode, client_of(mode)))
    assert "key-of-a-test" not in repr(seen.everything) + repr([span.attributes for span in seen.spans])


async def read_all(mode: Mode, stream: Any) -> None:
    await mode.all(stream)


async def read_two(mode: Mode, stream: Any) -> None:
    for _ in range(4):
        await mode.next(stream)


async def close_early(mode: Mode, stream: Any) -> None:
    await read_two(mode, stream)
    await mode.wait(stream.aclose() if mode.is_async else stream.close())


LEFT: Final = {"outcome": "cancelled", "end": "closed", "text": "I am", "complete": False}
BROKEN: Final = {"outcome": "error", "end": "error", "text": "I am", "complete": False}
ENDS: dict[str, End] = {
    "read to its end": End(read_all),
    "left after two words": End(read_two, **LEFT),  # type: ignore[arg-type]
    "closed after two words": End(close_early, **LEFT),  # type: ignore[arg-type]
    "cut by the server": End(read_all, {"cut_after": 4}, **BROKEN, kind="connection"),  # type: ignore[arg-type]
    "an error in a chunk": End(
        read_all, {"error_after": 4, "error_type": "RESOURCE_EXHAUSTED"}, **BROKEN, kind="rate_limit",  # type: ignore[arg-type]
    ),
    "ended without a finish reason": End(
        read_all, {"end_after": 4}, outcome="success", end="cut_off", text="I am", complete=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_stream_endings(name: str, mode: Mode, seen: Capture) -> None:
    row = ENDS[name]
    mode.provider.reply(**COUNTS, **row.reply)
    stream = await streamed(mode, client_of(mode))
    with suppress(Exception):
        await row.act(mode, stream)
    del stream
    await mode.collect()
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.complete) == (row.outcome, row.end, row.complete)
    assert record.text == row.text
    assert record.error is None if row.kind is None else record.error is not None and record.error.kind == row.kind
    usage = usage_of(record)
    assert (usage.input_tokens, usage.estimated) == (20, not row.complete)
    if row.complete:
        assert (usage.output_tokens, usage.reasoning_tokens, record.stream.chunks) == (9, 5, 6)
    assert record.timing.first_token_ns is not None


async def test_unread_stream_sends_nothing(mode: Mode, seen: Capture) -> None:
    stream = await streamed(mode, client_of(mode))
    del stream
    await mode.collect()
    assert (seen.records, mode.provider.requests) == ([], [])


async def test_retries_by_options_are_attempts_of_one_call(mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(status=503)
    mode.provider.reply(status=429)
    mode.provider.reply(**COUNTS)
    client = client_of(mode, retry_options=RETRIES)
    if stream:
        await mode.all(await streamed(mode, client))
    else:
        await answered(mode, client)
    record = the_call(seen)
    assert (record.outcome, record.retries, record.rate_limited) == ("success", 2, True)
    assert [(one.status, one.error_kind) for one in record.attempts] == [
        (503, "overloaded"), (429, "rate_limit"), (200, None),
    ]  # fmt: skip


async def test_last_error_is_that_of_the_call(mode: Mode, seen: Capture) -> None:
    for _ in range(3):
        mode.provider.reply(status=429, message="Quota exceeded for this minute")
    error = await caught(answered(mode, client_of(mode, retry_options=RETRIES)))
    record = the_call(seen)
    assert type(error).__name__ == "ClientError"
    assert record.error is not None
    assert (record.error.kind, record.error.status, record.error.type) == ("rate_limit", 429, "RESOURCE_EXHAUSTED")
    assert (record.error.message, len(record.attempts)) == ("Quota exceeded for this minute", 3)


@pytest.mark.parametrize("form", ["plain", "over lines"])
async def test_json_error_in_place_of_events(form: str, mode: Mode, seen: Capture) -> None:
    body = {"error": {"code": 429, "message": "Too many.", "status": "RESOURCE_EXHAUSTED"}}
    content = json.dumps(body, indent=None if form == "plain" else 2).encode()
    mode.provider.reply(raw=content, headers={"content-type": "application/json"})

    async def read() -> None:
        await mode.all(await streamed(mode, client_of(mode)))

    error = await caught(read())  # the oldest versions raise none
    await mode.collect()
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.message) == ("error", "rate_limit", "Too many.")
    assert error is None or type(error).__name__ == "ClientError"


@pytest.mark.filterwarnings("error:code property is deprecated")
async def test_invalid_answer_states_no_status(seen: Capture) -> None:
    """Errors of aiohttp have a status of their own, and warn of who reads it by its old name."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    client = genai.Client(api_key="key-of-a-test", http_options={"base_url": url})
    error = await caught(client.aio.models.generate_content(**ASK))
    server.close()
    record = the_call(seen)
    assert record.error is not None
    assert (record.outcome, record.error.status) == ("error", None)
    assert (record.error.exception or "").endswith(type(error).__qualname__)


ODD_ANSWERS: Final = {
    "page": b"<html>", "cut JSON": b'{"candidates": [', "list": b"[]", "text": b'"Well."', "number": b"1",
    "nothing": b"", "empty list of candidates": b'{"candidates": []}', "invalid candidates": b'{"candidates": 5}',
    "null": b"null", "error": b'{"error": {"code": 500, "message": "No."}}', "invalid error": b'{"error": 5}',
}  # fmt: skip


@pytest.mark.parametrize("form", ["text/plain", "application/json", "text/event-stream"])
@pytest.mark.parametrize("name", ODD_ANSWERS)
async def test_object_of_something_else_names_no_call(
    name: str, form: str, mode: Mode, stream: bool, seen: Capture
) -> None:
    """The SDK may make no object of an answer; the next one that it makes in this task is not of the call."""
    content = ODD_ANSWERS[name]
    raw = b"data: " + content + b"\r\n\r\n" if form == "text/event-stream" else content
    mode.provider.reply(raw=raw, headers={"content-type": form})
    with suppress(Exception):
        await mode.all(await streamed(mode, client_of(mode))) if stream else await answered(mode, client_of(mode))
    for kind in [types.LiveServerMessage, *([] if name == "invalid candidates" else [types.GenerateContentResponse])]:
        later = kind._from_response(response={}, kwargs={})
        with pytest.raises(callspan.UsageError, match="no call of this process"):
            callspan.call_id(later)
    await mode.collect()
    assert len(seen.records) == 1


async def test_cancelled_request(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(hang=True)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client_of(mode).models.generate_content(**ASK), 0.2)
    assert the_call(seen).outcome in ("cancelled", "timeout")


def get_weather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise LookupError("no such city")
    return f"sunny in {city}"


get_weather.__annotations__ = {"city": str, "return": str}  # older versions read no texts


def script_tools(provider: ScriptedProvider, city: str = "Paris") -> None:
    calls = [{"name": "get_weather", "arguments": {"city": city}}]
    provider.reply(text=None, tool_calls=calls, input_tokens=8, output_tokens=2)
    provider.reply(text="It is sunny.", input_tokens=15, output_tokens=4)


WAYS: Final = ("plain", "stream", "chat", "chat stream")


async def run_tools(mode: Mode, way: str, config: dict[str, Any]) -> None:
    client = client_of(mode)
    chat = client.chats.create(model=MODEL, config=config) if way.startswith("chat") else None
    if way == "plain":
        await mode.wait(client.models.generate_content(**ASK, config=config))
    elif way == "stream":
        await mode.all(await streamed(mode, client, config=config))
    elif way == "chat":
        await mode.wait(chat.send_message("How are you?"))
    else:
        await mode.all(await mode.wait(chat.send_message_stream("How are you?")))


@pytest.mark.parametrize("way", WAYS)
async def test_automatic_function_calling_is_an_agent_with_its_tools(way: str, mode: Mode, seen: Capture) -> None:
    script_tools(mode.provider)
    await run_tools(mode, way, {"tools": [get_weather]})
    await mode.collect()
    assert [(call.outcome, usage_of(call).input_tokens) for call in seen.records] == [("success", 8), ("success", 15)]
    events = [event for event in seen.everything if isinstance(event, EventRecord)]
    (tool,) = [event for event in events if event.event_type == "tool"]
    (agent,) = [event for event in events if event.event_type == "agent"]
    assert (tool.name, agent.name, tool.error) == ("get_weather", MODEL, None)
    assert {call.parent_span_id for call in seen.records} == {agent.span_id}
    sessions = [session for session in seen.everything if isinstance(session, SessionRecord)]
    assert {session.session_id for session in sessions} == {call.place.session_id for call in seen.records}
    assert [message.role for message in (seen.records[1].conversation or pytest.fail()).input][-1] == "tool"


async def test_raising_function_in_a_session(mode: Mode, seen: Capture) -> None:
    script_tools(mode.provider, city="Atlantis")
    with callspan.session("trip"):
        await run_tools(mode, "plain", {"tools": [get_weather]})
    (tool,) = [one for one in seen.everything if isinstance(one, EventRecord) and one.event_type == "tool"]
    assert tool.error is not None
    assert (tool.error.type, tool.error.message) == ("LookupError", "no such city")
    assert {call.place.session_name for call in seen.records} == {"trip"}


async def test_no_agent_without_automatic_functions(mode: Mode, seen: Capture) -> None:
    off = {"tools": [get_weather], "automatic_function_calling": {"disable": True}}
    for config in ({"tools": [{"google_search": {}}]}, off):
        await run_tools(mode, "plain", config)
    assert len(seen.records) == 2
    assert [one for one in seen.everything if isinstance(one, EventRecord)] == []


async def test_each_hop_of_an_automatic_continuation_is_a_call(mode: Mode, stream: bool, seen: Capture) -> None:
    if "automatic_continuation" not in types.GenerateContentConfig.model_fields:
        pytest.skip("this version continues no answers")
    hops = [("I am ", "CONTINUATION", 3), ("well.", "STOP", 5)]
    for text, reason, tokens in hops:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason}
        if reason == "CONTINUATION":
            candidate["continuationToken"] = "dG9rZW4="
        usage = {"promptTokenCount": 7, "candidatesTokenCount": tokens, "totalTokenCount": 7 + tokens}
        answer = {"candidates": [candidate], "usageMetadata": usage}
        mode.provider.reply(raw=[answer] if stream else answer)
    if stream:
        await mode.all(await streamed(mode, client_of(mode)))
    else:
        await answered(mode, client_of(mode))
    assert [call.text for call in seen.records] == ["I am ", "well."]
    assert [usage_of(call).output_tokens for call in seen.records] == [3, 5]
    assert [(call.outcome, call.finish_reason) for call in seen.records] == [
        ("success", "CONTINUATION"), ("success", "STOP"),
    ]  # fmt: skip


async def test_chats_state_each_turn(mode: Mode, seen: Capture) -> None:
    chat = client_of(mode).chats.create(model=MODEL)
    for text in ("One", "Two"):
        mode.provider.reply(text=text)
        await mode.wait(chat.send_message(text))
    assert [call.request.message_count for call in seen.records] == [1, 3]


async def test_contents_of_dictionaries_and_media_are_typed(mode: Mode, seen: Capture) -> None:
    parts = [
        {"text": "What is this?"},
        {"inline_data": {"mime_type": "image/png", "data": b"\xfb\xff\xfe"}},
        {"file_data": {"mime_type": "application/pdf", "file_uri": "https://files.test/a.pdf"}},
    ]
    contents = [
        {"role": "user", "parts": parts},
        {"role": "model", "parts": [{"function_call": {"name": "f", "args": {"x": 1}}}]},
        {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"result": 2}}}]},
    ]
    config = {"system_instruction": "Be brief."}
    await mode.wait(client_of(mode).models.generate_content(model=MODEL, contents=contents, config=config))
    conversation = the_call(seen).conversation
    assert conversation is not None
    kinds = [[type(part).__name__ for part in message.parts] for message in conversation.input]
    assert kinds == [["Text", "Media", "Media"], ["ToolCall"], ["ToolResult"]]
    assert [message.role for message in conversation.input] == ["user", "assistant", "tool"]
    image: Any = conversation.input[0].parts[1]
    assert (image.modality, image.mime, image.size) == ("image", "image/png", 3)
    call: Any = conversation.input[1].parts[0]
    result: Any = conversation.input[2].parts[0]
    assert (call.id, result.id, result.content) == ("f", "f", {"result": 2})
    assert [part.text for part in conversation.system] == ["Be brief."]  # type: ignore[union-attr]


async def test_blocked_prompt_is_refused(mode: Mode, stream: bool, seen: Capture) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
    }
    mode.provider.reply(raw=[blocked] if stream else blocked)
    if stream:
        await mode.all(await streamed(mode, client_of(mode)))
    else:
        await answered(mode, client_of(mode))
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert record.response is not None
    assert (record.outcome, record.response.refused, record.response.finish_reasons) == ("success", True, ["SAFETY"])
    assert (usage.input_tokens, usage.output_tokens) == (7, 0)
    assert record.stream is None or record.stream.end == "complete"


def called(**fields: Any) -> Any:
    return {"content": {"role": "model", "parts": [{"functionCall": fields}]}}


def piece(path: str, **fields: Any) -> Any:
    return called(partialArgs=[{"jsonPath": path, **fields}], willContinue=True)


PIECES: dict[str, tuple[list[Any], Any]] = {
    "texts": (
        [piece("$.city", stringValue="Bos", willContinue=True), piece("$.city", stringValue="ton")], {"city": "Boston"},
    ),
    "values": (
        [piece("$.n", numberValue=3), piece("$.b", boolValue=False), piece("$.z", nullValue="NULL_VALUE")],
        {"n": 3, "b": False, "z": None},
    ),
    "places": (
        [piece("$.a[0].c", stringValue="x"), piece("$.a[1].c", stringValue="y"), piece("$.d[0][0]", boolValue=True)],
        {"a": [{"c": "x"}, {"c": "y"}], "d": [[True]]},
    ),
    "quoted names": (
        [piece("$['a b'].c", stringValue="x"), piece('$["d.e"]', numberValue=1), piece(r"$['it\'s']", numberValue=2)],
        {"a b": {"c": "x"}, "d.e": 1, "it's": 2},
    ),
    "nothing": ([], {}),
    "what fits nowhere": (
        [piece("$.a", stringValue="x"), piece("$[3]", stringValue="y"), piece("", stringValue="z"), piece("$.b[x]"),
         piece("$.a[0]", boolValue=True)],
        {"a": [True], "b": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PIECES)
async def test_arguments_in_pieces_are_those_of_one_call(case: str, mode: Mode, seen: Capture) -> None:
    pieces, arguments = PIECES[case]
    other = {**called(name="g", id="c2", args={"y": 1}), "finishReason": "STOP"}
    begun = called(name="f", id="c1", willContinue=True)
    mode.provider.reply(raw=[{"candidates": [one]} for one in (begun, *pieces, called(), other)])
    await mode.all(await streamed(mode, client_of(mode)))
    record = the_call(seen)
    assert [(call.id, call.name, json.loads(call.arguments or "")) for call in record.tool_calls or ()] == [
        ("c1", "f", arguments), ("c2", "g", {"y": 1}),
    ]  # fmt: skip
    first, _ = body_returned(record)["candidates"][0]["content"]["parts"]
    assert first == {"functionCall": {"name": "f", "id": "c1", "args": arguments}}


async def test_arguments_that_were_cut_are_incomplete(mode: Mode, seen: Capture) -> None:
    begun = called(name="f", id="c1", willContinue=True)
    mode.provider.reply(raw=[{"candidates": [one]} for one in (begun, piece("$.city", stringValue="Bos"))])
    await mode.all(await streamed(mode, client_of(mode)))
    (call,) = the_call(seen).tool_calls or ()
    assert (call.name, call.arguments, call.incomplete) == ("f", '{"city":"Bos"}', True)


async def test_searches_of_an_earlier_chunk_count(mode: Mode, seen: Capture) -> None:
    counted = {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}
    searched = {"content": {"parts": [{"text": "a"}]}, "groundingMetadata": {"webSearchQueries": ["x"]}}
    last = {"content": {"parts": [{"text": "b"}]}, "groundingMetadata": {}, "finishReason": "STOP"}
    mode.provider.reply(raw=[{"candidates": [searched]}, {"candidates": [last], "usageMetadata": counted}])
    await mode.all(await streamed(mode, client_of(mode)))
    assert usage_of(the_call(seen)).hosted_tools == {"google_search": 1}


async def test_answer_whose_tokens_are_not_counted_has_no_output_count(mode: Mode, seen: Capture) -> None:
    for text, output in (("Well.", None), ("", 0)):
        candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
        usage = {"promptTokenCount": 7, "totalTokenCount": 7}
        mode.provider.reply(raw={"candidates": [candidate], "usageMetadata": usage})
        await answered(mode, client_of(mode))
        assert usage_of(seen.records[-1]).output_tokens == output


async def test_embeddings(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(input_tokens=6)
    await mode.wait(client_of(mode).models.embed_content(model="gemini-embedding-001", contents=["a b", "c"]))
    record = the_call(seen)
    assert (record.api, record.operation, record.request.model) == (
        "embed_content",
        "embeddings",
        "gemini-embedding-001",
    )
    assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (6, None)
    assert record.conversation is not None
    assert [message.text for message in record.conversation.input] == ["a b", "c"]


async def test_vertex_is_the_platform(mode: Mode, seen: Capture) -> None:
    await answered(mode, part_of(mode, vertex_client(mode.provider)))
    record = the_call(seen)
    assert (record.provider, record.request.model) == ("gcp.vertex_ai", MODEL)
    assert "/publishers/google/models/" in mode.provider.requests[0].path


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_own_http_client_is_recorded(library: str, mode: Mode, stream: bool, seen: Capture) -> None:
    http = pytest.importorskip(library)
    option = "httpx_async_client" if mode.is_async else "httpx_client"
    if option not in types.HttpOptions.model_fields or not hasattr(genai._api_client, library):
        pytest.skip(f"this version takes no client of {library}")
    own = http.AsyncClient() if mode.is_async else http.Client()
    mode.provider.reply(**COUNTS)
    client = client_of(mode, **{option: own})
    if stream:
        await mode.all(await streamed(mode, client))
    else:
        await answered(mode, client)
    await mode.wait(own.aclose() if mode.is_async else own.close())
    record = the_call(seen)
    assert (record.outcome, record.text) == ("success", "I am quite well.")
    assert [one.status for one in record.attempts] == [200]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_requests_of_a_client_certificate_are_recorded(
    stream: bool, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, seen: Capture
) -> None:
    """With such a certificate the SDK sends by the sessions of google-auth, which are those of requests."""
    if not hasattr(genai._api_client.BaseApiClient, "_use_google_auth_sync"):
        pytest.skip("this version does not use requests")
    requests = pytest.importorskip("google.auth.transport.requests")
    monkeypatch.setattr(genai._api_client.BaseApiClient, "_use_google_auth_sync", lambda _: True)
    monkeypatch.setattr(genai._api_client.mtls, "default_client_cert_source", lambda: None)
    monkeypatch.setattr(requests.AuthorizedSession, "configure_mtls_channel", lambda *_: None)
    client = vertex_client(provider, retry_options=RETRIES)
    provider.reply(status=503)
    provider.reply(**COUNTS)
    if stream:
        assert "".join(chunk.text or "" for chunk in client.models.generate_content_stream(**ASK)) == COUNTS["text"]
    else:
        assert client.models.generate_content(**ASK).text == COUNTS["text"]
    record = the_call(seen)
    assert client._api_client._authorized_session is not None
    assert (record.outcome, record.text, record.provider) == ("success", COUNTS["text"], "gcp.vertex_ai")
    assert [one.status for one in record.attempts] == [503, 200]
    client.close()


async def test_new_caches_are_counted(mode: Mode, store: str, instrumented: Instrument) -> None:
    handle = instrumented(stores=store)
    mode.provider.reply(raw={"name": "cachedContents/a", "usageMetadata": {"totalTokenCount": 9}}, on="/cachedContents")
    await mode.wait(client_of(mode).caches.create(model=MODEL, config={"contents": "A long text."}))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {"POST cachedContents": 1}


async def test_client_created_before_instrument_is_recorded(mode: Mode) -> None:
    client = client_of(mode)
    mode.provider.reply(**COUNTS)
    before = await answered(mode, client)
    mode.provider.reply(**COUNTS)
    with capture() as seen:
        recorded = await answered(mode, client)
    assert the_call(seen).outcome == "success"
    first, second = (answer.model_dump(exclude={"sdk_http_response", "response_id"}) for answer in (before, recorded))
    assert first == second


async def test_free_request_is_not_recorded(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw={"totalTokens": 3}, on=":countTokens")
    await mode.wait(client_of(mode).models.count_tokens(model=MODEL, contents="a b c"))
    assert seen.records == []


async def test_error_states_the_wait(mode: Mode, seen: Capture) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30.5s"}
    body = {"error": {"code": 429, "message": "Slow down", "status": "RESOURCE_EXHAUSTED", "details": [detail]}}
    mode.provider.reply(raw=body, status=429)
    assert await caught(answered(mode, client_of(mode)))
    assert [one.retry_after_s for one in the_call(seen).attempts] == [30.5]


RESULTS: Final[list[Any]] = [
    {"response": {"candidates": [{"content": {"parts": [{"text": "One."}], "role": "model"}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": MODEL}, "metadata": {"key": "first"}},
    {"error": {"code": 429, "message": "too many", "status": "RESOURCE_EXHAUSTED"}},
]  # fmt: skip


def check_results(seen: Capture, owner: str, keys: list[str]) -> None:
    answered, failed = seen.records
    assert [record.custom_id for record in seen.records] == keys
    assert {record.batch_id for record in seen.records} == {owner}
    assert (answered.api, answered.provider, answered.outcome) == ("generate_content", "gcp.gemini", "success")
    assert (answered.text, usage_of(answered).total_tokens) == ("One.", 5)
    assert failed.error is not None
    assert (failed.outcome, failed.error.kind, failed.error.message) == ("error", "rate_limit", "too many")


@pytest.mark.filterwarnings("ignore:BATCH_STATE_.* is not a valid JobState:UserWarning")  # of the oldest versions
async def test_results_that_a_batch_states_itself_are_calls(mode: Mode, seen: Capture) -> None:
    output = {"inlinedResponses": {"inlinedResponses": RESULTS}}
    done = {"name": "batches/b1", "metadata": {"state": "BATCH_STATE_SUCCEEDED", "model": MODEL, "output": output}}
    batches = client_of(mode).batches
    for body in ({"name": "batches/b1", "metadata": {"state": "BATCH_STATE_RUNNING"}}, done, done):
        mode.provider.reply(raw=body, on="/batches/b1")
        await mode.wait(batches.get(name="batches/b1"))
    check_results(seen, "b1", ["first", "1"])


@pytest.mark.filterwarnings("ignore:BATCH_STATE_.* is not a valid JobState:UserWarning")  # of the oldest versions
async def test_results_of_a_batch_whose_keys_repeat_are_calls(mode: Mode, seen: Capture) -> None:
    output = {"inlinedResponses": {"inlinedResponses": [{**one, "metadata": {"key": "k"}} for one in RESULTS]}}
    done = {"name": "batches/b1", "metadata": {"state": "BATCH_STATE_SUCCEEDED", "model": MODEL, "output": output}}
    for _ in range(2):
        mode.provider.reply(raw=done, on="/batches/b1")
        await mode.wait(client_of(mode).batches.get(name="batches/b1"))
    check_results(seen, "b1", ["k", "k"])
    assert {(record.api, record.request.model) for record in seen.records} == {("generate_content", MODEL)}


async def test_results_in_a_file_are_calls(mode: Mode, seen: Capture) -> None:
    first, second = RESULTS
    lines = [{"key": "a", "response": first["response"]}, {"key": "b", **second}]
    content = b"\n".join(json.dumps(line).encode() for line in lines)
    files = client_of(mode).files
    for _ in range(2):
        mode.provider.reply(raw=content, on="/files/batch-f1:download")
        assert await mode.wait(files.download(file="files/batch-f1")) == content
    check_results(seen, "batch-f1", ["a", "b"])


ANSWER: Final = RESULTS[0]["response"]
FAILED: Final = {"code": 3, "message": "Bad.", "status": "INVALID_ARGUMENT"}
ODD_LINES: Final[dict[str, tuple[list[Any], list[tuple[str | None, str, int | None]]]]] = {
    # the lines of a file, and what each call has: key, outcome, tokens
    "usage alone": (
        [{"key": "a", "response": {"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}}],
        [("a", "success", 3)],
    ),
    "no answer first": ([{"key": "a", "response": {}}, {"key": "b", "response": ANSWER}], [("b", "success", 5)]),
    "a key that is a number first": (
        [{"key": 1, "response": ANSWER}, {"key": "b", "response": ANSWER}], [(None, "success", 5), ("b", "success", 5)]
    ),
    "no keys": (
        [{"response": ANSWER}, {"response": ANSWER}, {"response": {**ANSWER, "responseId": "r1"}}, {"error": FAILED}],
        [(None, "success", 5)] * 3,
    ),
    "a status in place of an answer": (
        [{"key": "a", "status": FAILED}, {"key": "b", "response": ANSWER}], [("a", "error", None), ("b", "success", 5)]
    ),
    "the key after much": (
        [{"response": {**ANSWER, "more": "y" * 200_000}, "key": "a"}, {"key": "b", "response": ANSWER}],
        [("a", "success", 5), ("b", "success", 5)],
    ),
    "keys that repeat": (
        [{"key": "a", "response": ANSWER}, {"key": "a", "response": ANSWER}, {"key": "a", "error": FAILED}],
        [("a", "success", 5), ("a", "success", 5), ("a", "error", None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_LINES)
async def test_odd_results_in_a_file_are_one_call_each(name: str, mode: Mode, seen: Capture) -> None:
    lines, calls = ODD_LINES[name]
    for _ in range(2):
        mode.provider.reply(raw=b"\n".join(json.dumps(line).encode() for line in lines), on="/files/batch-f1:download")
        await mode.wait(client_of(mode).files.download(file="files/batch-f1"))
    found = [(one.custom_id, one.outcome, one.usage and one.usage.total_tokens) for one in seen.records]
    assert found == calls
    assert len({one.call_id for one in seen.records}) == len(calls)


async def test_other_files_are_not_read(mode: Mode, seen: Capture) -> None:
    for content in (b'{"messages": []}\n{"key": "a"}', b"\x00\x01\n{}", b""):
        mode.provider.reply(raw=content, on="/files/f2:download")
        assert await mode.wait(client_of(mode).files.download(file="files/f2")) == content
    assert not seen.records


def test_import_after_instrumenting_has_every_hook(tmp_path: Path) -> None:
    program = (
        "import callspan\ncallspan.instrument()\nimport google.genai\n"
        "print({hook.state for hook in callspan.patch_status()})"
    )
    done = ran("-W", "ignore", "-c", program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("{'on'}\n", "")


class Proxy(wrapt.ObjectProxy):  # type: ignore[misc] # not typed
    def __aiter__(self) -> Any:
        return aiter(self.__wrapped__)


async def test_answer_in_the_proxy_of_a_tracer_is_recorded_whole(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was put around the function that sends before callspan was switched on."""
    client, base = client_of(mode), importlib.import_module("google.genai._api_client").BaseApiClient
    original, name = (base._async_request, "_async_request") if mode.is_async else (base._request, "_request")

    def sync(*args: Any, **kwargs: Any) -> Any:
        return Proxy(original(*args, **kwargs))

    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        return Proxy(await original(*args, **kwargs))

    monkeypatch.setattr(base, name, asynchronous if mode.is_async else sync)
    mode.provider.reply(text="I am quite well.", input_tokens=20, output_tokens=9)
    with capture() as seen:
        await mode.all(await mode.wait(client.models.generate_content_stream(model=MODEL, contents="Hi")))
        record = the_call(seen)
    assert (record.outcome, record.text, usage_of(record).output_tokens) == ("success", "I am quite well.", 9)
    assert record.stream is not None
    assert record.stream.end == "complete"
