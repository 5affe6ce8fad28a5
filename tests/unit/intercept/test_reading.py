"""Reading of the SDKs' objects, even unusual ones: info, failures, raw responses, usage, observers."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from callspan.errors import call_error, outcome_of
from callspan.fail_open import fail_open
from callspan.intercept.client_info import call_info, wants_raw
from callspan.intercept.hooks import Followed, HookContext, guarded_data
from callspan.intercept.http_hooks import observe_bytes
from callspan.intercept.response_observer import OBSERVERS, CapturePath, ResponseObserver, body_of, observer_of
from callspan.intercept.response_state import Event
from callspan.intercept.sdk_readers import is_running
from callspan.intercept.stream_readers import is_usage_chunk, request_usage
from callspan.observe.deferred_ends import DeferredEnds
from callspan.observe.live_call import CallFactory
from callspan.observe.ports import CallInfo
from callspan.process.processed import Processed
from callspan.providers import registry
from callspan.records import CallRecord, Record
from tests.processed import UNPROCESSED


def options(**fields: Any) -> Any:
    return SimpleNamespace(**fields)


class OpenAI:
    def __init__(self, base_url: object) -> None:
        self.base_url = base_url


class AsyncAzureOpenAI(OpenAI): ...


class Anthropic(OpenAI):
    __module__ = "anthropic._client"


class AnthropicBedrock(OpenAI):
    __module__ = "anthropic.lib.bedrock"


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (OpenAI("https://api.openai.com/v1/"), ("openai", "openai", "api.openai.com", 443)),
        (OpenAI("http://localhost:8000/v1"), ("openai", None, "localhost", 8000)),
        (OpenAI("http://[::1]/v1"), ("openai", None, "::1", 80)),
        (OpenAI("ftp://host/"), ("openai", None, "host", None)),
        (OpenAI(None), ("openai", None, None, None)),
        (OpenAI(""), ("openai", None, None, None)),
        (AsyncAzureOpenAI("https://me.openai.azure.com/openai"), ("openai", None, "me.openai.azure.com", 443)),
        (Anthropic("https://api.anthropic.com"), ("anthropic", "anthropic", "api.anthropic.com", 443)),
        (AnthropicBedrock("https://bedrock-runtime.us-east-1.amazonaws.com"), ("anthropic", "aws.bedrock", None, 443)),
        (object(), ("openai", None, None, None)),
    ],
)
def test_the_server_of_a_call_is_read_from_its_client(
    client: object, expected: tuple[str, str | None, str | None, int | None]
) -> None:
    family, provider, host, port = expected
    for _ in range(2):
        info = call_info(client, options(), False)
        assert (info.sdk or "").split("/")[0] == family
        assert provider in (None, info.provider)
        assert host in (None, info.server_address)
        assert info.server_port == port


def test_a_client_that_raises_is_harmless() -> None:
    class Broken:
        @property
        def base_url(self) -> str:
            raise ValueError("no")

    assert call_info(Broken(), options(), True) == call_info(object(), options(), True)


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({}, None),
        ({"json_data": {"model": "m"}}, "m"),
        ({"json_data": {"model": "m"}, "extra_json": {"model": "other"}}, "other"),
        ({"json_data": {"model": "m"}, "extra_json": {}}, "m"),
        ({"json_data": {"model": "m"}, "extra_json": None}, "m"),
        ({"json_data": {"model": 7}}, None),
        ({"json_data": {"model": 7}, "extra_json": {"model": None}}, None),
        ({"json_data": [{"model": "m"}]}, None),
        ({"json_data": b'{"model":"m"}'}, None),
    ],
)
def test_the_model_is_the_one_that_will_be_sent(given: dict[str, Any], model: str | None) -> None:
    assert call_info(object(), options(**given), True).model == model


# Failures


class OddError(Exception):
    """An exception with the attributes of the SDKs'."""

    def __init__(self, message: str = "odd", **fields: Any) -> None:
        super().__init__(message)
        vars(self).update(fields)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OddError(status_code=429), (429, None)),
        (OddError(status_code=400, request_id="r"), (400, "r")),
        (OddError(status_code=200), (None, None)),
        (OddError(status_code="500"), (None, None)),
        (OddError(status_code=None, request_id=7), (None, None)),
        (OddError(), (None, None)),
    ],
)
def test_an_errors_status_and_request_are_read_where_they_mean_something(
    error: Exception, expected: tuple[int | None, str | None]
) -> None:
    info = call_error(error)
    assert (info.status, info.request_id) == expected
    assert info.message == "odd"
    assert info.exception == f"{__name__}.OddError"


@pytest.mark.parametrize(
    ("error", "exception", "outcome"),
    [
        (ValueError("x"), "ValueError", "error"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "cancelled"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError", "cancelled"),
        (GeneratorExit(), "GeneratorExit", "cancelled"),
        (MuteError(), f"{__name__}.MuteError", "error"),
        (OddError(status_code=500), f"{__name__}.OddError", "error"),
    ],
)
def test_the_end_of_a_call_by_its_exception(error: BaseException, exception: str, outcome: str) -> None:
    info = call_error(error)
    assert info.exception == exception
    assert outcome_of(error, info) == outcome


def test_an_exception_without_a_message_has_none() -> None:
    assert call_error(MuteError()).message is None


# Stream usage


def endpoint(path: str) -> Any:
    return registry.endpoint_for("post", path)


@pytest.mark.parametrize(
    ("body", "extra", "requested"),
    [
        ({"stream": True}, None, {"include_usage": True}),
        ({"stream_options": None}, {}, {"include_usage": True}),
        ({"stream_options": {}}, None, {"include_usage": True}),
        ({"stream_options": {"other": 1}}, None, {"other": 1, "include_usage": True}),
        ({"stream_options": {"include_usage": False}}, None, None),
        ({"stream_options": {"include_usage": None}}, None, None),
        ({"stream_options": "odd"}, None, None),
        ({}, {"stream_options": None}, None),
        ([], None, None),
        (None, None, None),
    ],
)
def test_usage_is_requested_where_it_was_not_set(body: object, extra: object, requested: object) -> None:
    before = json.dumps(body)
    given = options(json_data=body, extra_json=extra)
    assert request_usage(endpoint("/chat/completions"), given) is (requested is not None)
    assert json.dumps(body) == before
    if requested is None:
        assert given.json_data is body
    else:
        assert given.json_data["stream_options"] == requested


@pytest.mark.parametrize("path", ["/responses", "/completions", "/embeddings", "/v1/messages"])
def test_only_chat_streams_request_usage(path: str) -> None:
    given = options(json_data={})
    assert not request_usage(endpoint(path), given)
    assert given.json_data == {}


def test_options_of_another_shape_are_left_alone() -> None:
    assert request_usage(endpoint("/chat/completions"), object()) is False


@pytest.mark.parametrize(
    ("chunk", "extra"),
    [
        (options(choices=[], usage={"prompt_tokens": 1}), True),
        (options(choices=[], usage=None), False),
        (options(choices=[1], usage={}), False),
        (options(choices=None, usage={}), False),
        (options(usage={}), False),
        (None, False),
    ],
)
def test_the_chunk_that_is_only_usage_is_distinguished_from_all_others(chunk: object, extra: bool) -> None:
    assert is_usage_chunk(chunk) is extra


# Raw responses


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({"X-Stainless-Raw-Response": "true"}, True),
        ({"x-stainless-raw-response": "stream"}, True),
        ({b"x": 1, 7: 2}, False),
        ({}, False),
        (None, False),
        ([("x-stainless-raw-response", "true")], False),
    ],
)
def test_a_request_for_the_raw_response_is_seen_in_the_headers(headers: object, raw: bool) -> None:
    assert wants_raw(options(headers=headers)) is raw
    assert wants_raw(object()) is False


def broken() -> dict[str, object]:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("result", "response", "body"),
    [
        (None, options(json=lambda: {"a": 1}, is_closed=True), {"a": 1}),
        (options(to_dict=lambda: {"b": 1}), options(json=broken, is_closed=True), None),
        (options(to_dict=lambda: {"b": 1}), options(json=broken, is_closed=False), {"b": 1}),
        (options(model_dump=lambda: {"c": 1}), None, {"c": 1}),
        (options(to_dict=lambda: {"b": 1}, model_dump=broken), None, {"b": 1}),
        (options(to_dict="no method", model_dump=lambda: {"c": 1}), None, {"c": 1}),
        (options(to_dict=lambda: [1]), None, None),
        (options(to_dict=broken), None, None),
        ("text", None, None),
        (None, None, None),
    ],
)
def test_an_unparsed_body_is_read_where_it_can_be(result: object, response: Any, body: object) -> None:
    assert body_of(result, response) == body


def hooked(original: Any) -> Any:
    return observe_bytes(HookContext(), original)


class Response:
    """As much of an HTTP response as is used: the pieces of its body."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self._pieces = pieces
        self._error = error

    @hooked
    def iter_bytes(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    @hooked
    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._error is not None:
            raise self._error


class Span:
    trace_id = span_id = parent_span_id = trace = None
    sampled = True
    wants_content = False

    def end(self, record: Processed[CallRecord], conversation: object) -> None: ...


class Call:
    """One call whose caller reads the response himself."""

    def __init__(self, *, stream: bool = False) -> None:
        self.written: list[Record] = []
        factory = CallFactory(
            start_span=lambda _record: Span(),
            processors=UNPROCESSED,
            write=lambda processed: self.written.append(processed.record),
            observed=lambda _record: None,
            ambient=lambda: (None, None, {}),
        )
        chat = endpoint("/chat/completions")
        self.live = factory.start(chat, CallInfo(provider="openai", model="gpt-5", stream=stream))
        self.deferred = DeferredEnds()
        self.observer = ResponseObserver(self.live, self.deferred, CapturePath(raw=True))
        self.observer.on(Event.HANDED_OVER)

    @property
    def record(self) -> CallRecord:
        self.deferred.drain()
        (record,) = [one for one in self.written if isinstance(one, CallRecord) and one.outcome != "started"]
        return record

    def read(self, response: Response, how: str) -> list[bytes]:
        self.observer.attach(response)
        if how == "sync":
            return list(response.iter_bytes())

        async def pieces() -> list[bytes]:
            return [piece async for piece in response.aiter_bytes()]

        return asyncio.run(pieces())


ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-5-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Héllo"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 0},
}
CHUNKS = [
    {"id": "1", "model": "gpt-5-x", "choices": [{"index": 0, "delta": {"content": "Hé"}, "finish_reason": None}]},
    {"id": "1", "model": "gpt-5-x", "choices": [{"index": 0, "delta": {"content": "llo"}, "finish_reason": "stop"}]},
]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_read_in_pieces_is_recorded_and_passes_unchanged(how: str, size: int) -> None:
    call = Call()
    pieces = cut(json.dumps(ANSWER).encode(), size)
    assert call.read(Response(*pieces), how) == pieces
    record = call.record
    assert record.outcome == "success"
    assert record.response is not None
    assert record.response.model == "gpt-5-x"
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (3, 0)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("size", [1, 13, 10_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_events_are_read_however_they_are_cut(how: str, size: int, line_end: str) -> None:
    call = Call(stream=True)
    events = [f"data: {json.dumps(chunk, ensure_ascii=False)}" for chunk in CHUNKS]
    text = (line_end * 2).join([": a comment", "event: odd", *events, "data:", "data: [DONE]", ""])
    pieces = cut(text.encode(), size)
    assert call.read(Response(*pieces), how) == pieces
    record = call.record
    assert (record.outcome, record.stream and record.stream.chunks) == ("success", 2)
    assert record.response is not None
    assert record.response.finish_reasons == ["stop"]
    assert "Héllo" in bytes(record.response.body).decode()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("pieces", [[], [b""], [b"data: {}\n\n"]])
def test_no_body_and_the_events_of_a_stream_are_not_reported_as_broken_json(how: str, pieces: list[bytes]) -> None:
    call = Call()
    assert call.read(Response(*pieces), how) == pieces
    assert (call.record.outcome, call.record.error) == ("success", None)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("pieces", [[b"no json"], [b'{"half":'], [b"\xff\xfe"]])
def test_an_invalid_body_reaches_the_caller_and_the_call_ends_with_a_parsing_error(
    how: str, pieces: list[bytes]
) -> None:
    call = Call()
    assert call.read(Response(*pieces), how) == pieces
    assert call.record.error is not None
    assert (call.record.outcome, call.record.error.kind, call.record.usage) == ("error", "parsing", None)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize(("error", "outcome"), [(OSError("cut off"), "error"), (KeyboardInterrupt(), "cancelled")])
def test_an_error_while_reading_is_the_callers_and_the_calls(how: str, error: BaseException, outcome: str) -> None:
    call = Call(stream=True)
    with pytest.raises(type(error)):
        call.read(Response(b"data: {}\n\n", error=error), how)
    assert call.record.outcome == outcome
    assert call.observer.pulling is False


def test_an_abandoned_reader_ends_the_call_as_closed() -> None:
    call = Call(stream=True)
    response = Response(b"data: {}\n\n", b"data: {}\n\n")
    call.observer.attach(response)
    reading: Any = response.iter_bytes()
    next(reading)
    reading.close()
    assert (call.record.outcome, call.record.stream and call.record.stream.end) == ("cancelled", "closed")


@pytest.mark.parametrize("how", ["sync", "async"])
def test_bytes_of_an_unobserved_response_pass_unchanged(how: str) -> None:
    call = Call()
    call.observer.path = CapturePath()
    assert call.read(Response(b"x"), how) == [b"x"]
    assert call.written == []
    response = Response(b"y")
    assert list(response.iter_bytes()) == [b"y"]


# Observers


@pytest.mark.parametrize("response", [None, object(), options(extensions=None), [], Response()])
def test_an_unobserved_response_has_no_observer(response: object) -> None:
    assert observer_of(response) is None


def test_an_observer_is_found_by_its_response_until_that_is_gone() -> None:
    before = len(OBSERVERS)
    call, response = Call(), Response()
    call.observer.attach(response)
    assert observer_of(response) is call.observer
    assert observer_of(copy.copy(response)) is None
    del response
    assert len(OBSERVERS) == before


def test_a_response_that_answers_several_calls_ends_them_all_when_it_is_dropped() -> None:
    """A transport of a test may give one response to every request."""
    calls, response = [Call(stream=True) for _ in range(3)], Response()
    for call in calls:
        call.observer.attach(response)
    assert observer_of(response) is calls[-1].observer
    del response
    assert [call.record.stream and call.record.stream.end for call in calls] == ["dropped"] * 3


def test_a_response_that_takes_no_weak_reference_has_no_observer() -> None:
    call, response = Call(), []  # type: ignore[var-annotated]
    with pytest.raises(TypeError):
        call.observer.attach(response)
    assert observer_of(response) is None


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (Event.COMPLETED, "success"),
        (Event.CLOSED, "cancelled"),
        (Event.RESPONSE_GONE, "cancelled"),
        (Event.READER_GONE, "cancelled"),
    ],
)
def test_an_end_before_the_response_is_returned_counts_once_it_is(end: Event, outcome: str) -> None:
    call = Call(stream=True)
    observer = ResponseObserver(call.live, call.deferred, CapturePath())
    observer.on(end)
    observer.failed(ValueError("later, so it does not count"))
    call.deferred.drain()
    assert not call.live.ended
    observer.on(Event.HANDED_OVER)
    assert call.record.outcome == outcome


def test_the_first_end_counts() -> None:
    call = Call()
    call.observer.failed(TimeoutError("slow"))
    call.observer.completed()
    call.observer.on(Event.CLOSED)
    assert call.record.outcome == "timeout"


@pytest.mark.parametrize(("reader", "running"), [(None, False), (OpenAI(""), False), (AsyncAzureOpenAI(""), True)])
def test_an_executing_reader_is_detected(reader: Any, running: bool) -> None:
    if reader is not None:
        reader.gi_running = running
    assert is_running(reader) is running


RESPONSE = object()


def today(self: object, *, data: object, cast_to: object, response: object) -> object:
    return data, cast_to, response


def positional(self: object, data: object, cast_to: object, response: object) -> object:
    return data, cast_to, response


def optional(self: object, *, data: object, cast_to: object = None, response: object = None) -> object:
    return data, cast_to, response


def wider(self: object, *, data: object, cast_to: object, response: object, more: int = 0) -> object:
    return data, cast_to, response, more


@pytest.mark.parametrize(
    ("original", "args", "named"),
    [
        (today, (), {"data": 1, "cast_to": int, "response": RESPONSE}),
        (today, (), {"data": 1}),
        (today, (1, int, RESPONSE), {}),
        (today, (), {"data": 1, "cast_to": int, "response": RESPONSE, "more": 2}),
        (positional, (1, int, RESPONSE), {}),
        (positional, (1,), {"cast_to": int, "response": RESPONSE}),
        (optional, (), {"data": 1}),
        (optional, (), {"data": 1, "response": RESPONSE}),
        (wider, (), {"data": 1, "cast_to": int, "response": RESPONSE, "more": 2}),
    ],
)
def test_the_hook_on_data_takes_what_the_function_takes(
    original: Callable[..., object], args: tuple[object, ...], named: dict[str, object]
) -> None:
    received: list[object] = []

    class Observer:
        data = staticmethod(received.append)

    nobody: ContextVar[object] = ContextVar("nobody", default=None)
    followed = Followed({id(RESPONSE): Observer()}, {}, nobody)
    hooked = guarded_data(original, fail_open("observe data"), followed)
    results = []
    for function in (original, hooked):
        try:
            results.append(function(object(), *args, **named))
        except TypeError as error:
            results.append(str(error))
    assert results[0] == results[1]
    given = RESPONSE in args or named.get("response") is RESPONSE
    assert received == ([1] if given and not isinstance(results[0], str) else [])
