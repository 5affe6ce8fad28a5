"""Responses over websockets: each is one call, one span and one record, as over a stream."""

from __future__ import annotations

import inspect
import json
import socket as socket_module
from operator import attrgetter
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from tests.support import sdks
from tests.support.calls import body_sent, client_class, conversation_of, everywhere, the_call
from tests.support.mode import Mode
from tests.support.socket_server import Socket, connected, exceptions, needs_queue

import callspan
from callspan.testing import Capture, Reply, ScriptedProvider, capture

FACTS = attrgetter(
    "conversation.input", "conversation.system", "text", "usage", "stream", "outcome", "finish_reason", "sdk",
    "provider", "api", "operation", "server_address", "server_port", "request.model", "request.stream",
    "request.params", "request.message_count",
)  # fmt: skip
"""What does not depend on time, ids and transport."""


async def test_websocket_response_equals_streamed_response(mode: Mode, seen: Capture) -> None:
    fields = {"instructions": "Be brief.", "temperature": 0.5, "input": [{"role": "user", "content": "How are you?"}]}
    reply = Reply(text="I am well today.", reasoning="Hm.", tool_calls=[{"name": "look", "arguments": {"at": "it"}}])
    mode.provider.reply(reply, repeat=True)
    async with connected(mode) as socket:
        await socket.create(**fields)
        await socket.until()
    socket_record = the_call(seen)
    await mode.all(await mode.wait(mode.openai().responses.create(model="gpt-5", stream=True, **fields)))
    _, stream_record = seen.records
    assert FACTS(socket_record) == FACTS(stream_record)
    assert body_sent(socket_record) | {"stream": True} == body_sent(stream_record)
    calls = [(call.name, call.arguments) for call in socket_record.tool_calls]
    assert calls == [(call.name, call.arguments) for call in stream_record.tool_calls]
    assert (len(calls), socket_record.usage is None, socket_record.retries) == (1, False, None)
    timing = socket_record.timing
    assert 0 < timing.first_chunk_ns <= timing.first_token_ns
    assert timing.first_token_ns <= (timing.last_chunk_ns or 0) <= (timing.duration_ns or 0)


async def test_create_takes_session_and_metadata_of_its_sender(mode: Mode, seen: Capture) -> None:
    tracer = trace.get_tracer("application")
    async with connected(mode) as socket:
        with callspan.session("first"), callspan.metadata(user_id="ann"):
            await socket.create()
        with callspan.session("second"), tracer.start_as_current_span("reading"), callspan.metadata(user_id="bob"):
            await socket.until()
    (record,) = seen.records
    first = next(session for session in seen.sessions if session.name == "first")
    assert (record.place.session_id, record.metadata) == (first.session_id, {"user_id": "ann"})
    assert record.parent_span_id == first.span_id


@pytest.mark.parametrize("field", [{"generate": False}, {"prewarm": True}])
async def test_warm_up_is_a_call_without_output(field: dict[str, bool], mode: Mode, seen: Capture) -> None:
    async with connected(mode) as socket:
        await socket.create(**field)
        await socket.until()
    record = the_call(seen)
    assert (record.outcome, record.finish_reason) == ("success", "completed")
    assert (conversation_of(record).output, record.usage and record.usage.output_tokens) == ([], 0)


async def test_error_event_sets_status_and_limits(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=429)
    async with connected(mode) as socket:
        await socket.create()
        await socket.until()
    record = the_call(seen)
    assert (record.error.kind, record.error.status, record.error.code) == ("rate_limit", 429, "rate_limit_exceeded")
    assert record.error.request_id is not None
    assert "headers" not in str(record.error.body)
    assert record.rate_limited is True
    assert (record.rate_limits.requests.limit, record.retries) == (10000, None)


@pytest.mark.parametrize("where", [{"extra_headers": {"authorization": "Bearer mB4-q0w7e1r5"}},
                                   {"extra_query": {"key": "mB4-q0w7e1r5"}}], ids=["header", "parameter"])  # fmt: skip
async def test_key_that_an_error_repeats_is_nowhere(where: dict[str, Any], mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, message="no such key: mB4-q0w7e1r5")
    async with connected(mode, **where) as socket:
        await socket.create()
        await socket.until()
    assert the_call(seen).error.message == "no such key: [secret]"
    assert "mB4-q0w7e1r5" not in everywhere(seen)


WHOLE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed",
    "output": [{"id": "m", "type": "message", "content": [{"type": "output_text", "text": "Hi."}]}],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}  # fmt: skip
STARTED: dict[str, Any] = {**WHOLE, "status": "in_progress", "output": [], "usage": None}
LAST: dict[str, Any] = {"type": "response.completed", "response": WHOLE}


@pytest.mark.parametrize(
    "events",
    [
        [LAST], [LAST, LAST], [LAST, {"type": "response.created", "response": STARTED}, LAST],
        [{"type": "response.created", "response": STARTED}, LAST, LAST],
        [LAST, {"type": "response.completed", "response": {**WHOLE, "id": None}}],
    ],
    ids=["last event alone", "twice", "start after it", "end twice", "end without an id"],
)  # fmt: skip
async def test_response_is_one_call_whatever_its_events(events: list[Any], mode: Mode, seen: Capture) -> None:
    script = ["recv", *events, {"type": "response.queued", "response": {}}]
    async with connected(mode, script=script) as socket:
        await socket.create(input="Hi")
        await socket.until("response.queued")
    record = the_call(seen)
    assert (record.outcome, record.text, record.usage and record.usage.total_tokens) == ("success", "Hi.", 5)


async def test_oldest_of_65_unanswered_creates_is_cut_off(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(hang=True)
    async with connected(mode) as socket:
        for number in range(66):
            await socket.create(input=str(number))
    ends = [(record.stream and record.stream.end, body_sent(record)["input"]) for record in seen.records]
    assert [given for end, given in ends if end == "cut_off"] == ["0", "1"]
    assert [end for end, _ in ends].count("closed") == 64


async def test_reconnect_cuts_off_running_and_sends_queued_creates(mode: Mode, seen: Capture) -> None:
    second = json.dumps({"type": "response.create", "model": "gpt-5", "input": "second"})
    opened: list[Socket] = []

    def reconnecting(_: object) -> None:
        opened[0].connection._send_queue.enqueue(second)  # as `send` does meanwhile

    needs_queue(mode.openai().responses.connect())
    mode.provider.reply(text="Lost.", cut_after=4)
    mode.provider.reply(text="Found.")
    async with connected(mode, on_reconnecting=reconnecting, initial_delay=0.01) as socket:
        opened.append(socket)
        await socket.create(input="first")
        async for event in mode.items(socket.connection):
            if event.type == "response.completed":
                break
    lost, found = sorted(seen.records, key=lambda record: record.timing.start_ns)
    assert (lost.stream.end, lost.outcome) == ("cut_off", "error")
    assert (found.text, body_sent(found)["input"]) == ("Found.", "second")


CREATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # by surface: how it is opened, what is sent
    "responses.connect": ({}, {"type": "response.create", "model": "gpt-5", "input": "Hi"}),
    "realtime.connect": ({"model": "gpt-5"}, {"type": "response.create", "response": {"instructions": "Hi"}}),
}


@pytest.mark.parametrize("surface", CREATES)
@pytest.mark.parametrize("refused", [True, False], ids=["refused", "nobody listens"])
async def test_failed_open_raises_to_the_application(refused: bool, surface: str, mode: Mode, seen: Capture) -> None:
    options, create = CREATES[surface]
    mode.provider.reply(status=401, on=lambda request: request.is_upgrade)
    urls = {} if refused else {"base_url": "http://127.0.0.1:1/v1"}
    manager = attrgetter(surface)(mode.openai(**urls))(**options)
    needs_queue(manager)
    manager.send(create)
    with pytest.raises(exceptions.InvalidStatus if refused else ConnectionRefusedError):
        async with mode.entered(manager):
            pass
    assert seen.everything == []


async def test_suppressed_create_has_a_record_without_a_span(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="Hidden.")
    mode.provider.reply(text="Shown.")
    async with connected(mode) as socket:
        with suppress_instrumentation():
            await socket.create()
        await socket.create()
        await socket.until()
        await socket.until()
    assert [(call.text, call.span_id is None) for call in seen.records] == [("Hidden.", True), ("Shown.", False)]


def azure(mode: Mode) -> Any:
    url = f"{mode.provider.url}/openai/v1"
    urls = {"base_url": url, "websocket_base_url": url.replace("http", "ws")}
    return mode.keep(client_class(openai, "AzureOpenAI", mode)(api_key="k", api_version="preview", **urls))


@pytest.mark.parametrize(
    ("client_of", "surface", "name"),
    [(Mode.openai, "beta.responses.connect", "openai"), (azure, "responses.connect", "azure.ai.openai")],
)
async def test_other_websocket_surfaces_are_unchanged(
    client_of: Any, surface: str, name: str, mode: Mode, seen: Capture
) -> None:
    """An event that belongs to no call is sent too."""
    client = client_of(mode)
    sdks.needs_name(client, surface)
    async with connected(mode, surface, client=client) as socket:
        await socket.create()
        await socket.send({"type": "response.inject", "response_id": "r", "input": []})
        await socket.until()
    assert (the_call(seen).outcome, seen.records[0].provider) == ("success", name)


HOSTS = {
    "ws://api.openai.com/v1/responses": "openai",
    "ws://res.openai.azure.com/openai/v1/responses?api-version=preview": "azure.ai.openai",
    "ws://example.com/v1/responses": None,
}


@pytest.mark.parametrize("url", HOSTS)
def test_connection_without_an_sdk_is_identified_by_host(url: str, provider: ScriptedProvider, seen: Capture) -> None:
    from websockets.sync.client import connect

    address = ("127.0.0.1", int(provider.url.rpartition(":")[2]))
    with socket_module.create_connection(address) as sock, connect(url, sock=sock, compression=None) as connection:
        assert ("recv" in vars(connection)) == (HOSTS[url] is not None)
        connection.send(json.dumps({"type": "response.create", "model": "gpt-5", "input": "Hi"}))
        while '"response.completed"' not in connection.recv().replace(" ", ""):
            pass
    assert [(record.provider, record.sdk) for record in seen.records] == ([(HOSTS[url], None)] if HOSTS[url] else [])


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "send": ((), {"nonsense": 1}), "recv": ((1, 2, 3), {}), "close": ((), {"nonsense": 1})
}  # fmt: skip


@pytest.mark.usefixtures("nothing_fails")
@pytest.mark.parametrize("name", WRONG)
async def test_wrong_argument_raises_as_without_callspan(name: str, mode: Mode) -> None:
    """When it is called, not when it is awaited; and it is the end of nothing."""

    async def wrongly_called() -> tuple[bool, str, list[str]]:
        given, named = WRONG[name]
        async with connected(mode) as socket:
            await socket.create()
            method = getattr(socket.connection._connection, name)
            with pytest.raises(TypeError) as caught:
                method(*given, **named)
            return inspect.iscoroutinefunction(method), str(caught.value), [one.type for one in await socket.until()]

    plain = await wrongly_called()
    with capture() as seen:
        assert await wrongly_called() == plain
    assert the_call(seen).outcome == "success"


async def test_close_that_is_refused_ends_nothing(mode: Mode, seen: Capture) -> None:
    async with connected(mode) as socket:
        await socket.create()
        with pytest.raises(exceptions.ProtocolError):
            await mode.wait(socket.connection._connection.close(code=99))
        await socket.until()
    assert the_call(seen).outcome == "success"
