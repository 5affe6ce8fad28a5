"""Manually recorded calls: the same span and record as for the SDKs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import callspan
from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}


def record(mode: Mode, **options: Any) -> Any:
    return mode.entered(callspan.record_call(provider="vllm", **options))


def same(one: CallRecord, other: CallRecord) -> bool:
    """Equal but for identities, times, attempts and who was asked."""
    return msgspec.json.decode(msgspec.json.encode(_core(one))) == msgspec.json.decode(
        msgspec.json.encode(_core(other))
    )


def _core(call: CallRecord) -> object:
    response = call.response
    return [call.api, call.operation, call.outcome, call.request, response and response.body, call.usage, call.stream,
            call.error, response and response.finish_reasons]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_call_recorded_by_hand_is_recorded_as_through_the_sdk(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """The bodies and chunks are those that the SDK gets for the same request."""
    mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)

    async def body() -> None:
        chat = mode.openai().chat.completions
        request = {**CHAT, **({"stream": True} if stream else {})}
        result = await mode.wait(chat.create(**request))
        chunks = await mode.all(result) if stream else []
        async with record(mode, model="gpt-5", stream=stream) as call:
            call.request(mode.provider.requests[0].content)
            if stream:
                for chunk in chunks:
                    call.chunk(chunk.to_dict(mode="json", exclude_unset=True))
            else:
                call.response(result.to_dict(mode="json", exclude_unset=True))

    run(body)
    sdk, hand = seen.records
    assert same(hand, sdk)
    assert hand.provider == "vllm"
    ours, theirs = seen.spans
    assert ours.attributes is not None
    assert theirs.attributes is not None
    own = {"llm.item_id", "server.address", "server.port"}
    names = set(ours.attributes) - set(theirs.attributes) - own
    assert not {name for name in names if not name.startswith(("http.", "llm.", "callspan."))}


def test_what_is_reported_is_in_the_record(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        async with record(mode, api="messages", server="https://gpu-1/v1", client="mine/1.0", model="m") as call:
            call.request({"model": "m", "max_tokens": 3, "messages": QUESTION})
            call.attempt_started()
            call.response_headers(200, {"Request-ID": "req_1"})
            call.response({
                "id": "msg_1", "model": "m", "role": "assistant", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "Well."}],
                "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1},
            })  # fmt: skip
            assert call.call_id

    run(body)
    call = the_call(seen)
    assert (call.api, call.sdk, call.server_address, call.server_port) == ("messages", "mine/1.0", "gpu-1", 443)
    assert text_of(call) == "Well."
    assert call.usage is not None
    assert call.usage.input_tokens == 5
    assert [(attempt.status, attempt.request_id) for attempt in call.attempts] == [(200, "req_1")]


def test_the_span_is_current_within_the_block_and_no_longer(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        before = trace.get_current_span()
        async with record(mode):
            inside = trace.get_current_span().get_span_context().span_id
        assert trace.get_current_span() is before
        assert f"{inside:016x}" == the_call(seen).span_id

    run(body)


def test_an_exception_passes_and_keeps_what_came(mode: Mode, run: Run, seen: Captured) -> None:
    problem = ValueError("broken pipe")

    async def body() -> None:
        async with record(mode) as call:
            call.request({**CHAT, "stream": True})
            call.chunk({"choices": [{"index": 0, "delta": {"content": "Hal"}}]})
            raise problem

    with pytest.raises(ValueError, match="broken pipe") as raised:
        run(body)
    assert raised.value is problem
    call = the_call(seen)
    assert call.outcome == "error"
    assert call.error is not None
    assert call.error.exception == "ValueError"
    assert call.stream is not None
    assert call.stream.end == "error"
    assert text_of(call) == "Hal"
    assert seen.spans[0].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("odd", [b"no json", b"[1]", {"messages": 3}, {"stream": object()}])
def test_invalid_requests_lose_content_and_never_the_call(odd: Any, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        async with record(mode) as call:
            call.request(odd)
            call.chunk(7)

    run(body)
    assert the_call(seen).provider == "vllm"


def test_it_belongs_to_the_session_and_timestep_around_it(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        with callspan.session("s") as session, session.timestep():
            async with record(mode) as call:
                call.request(CHAT)

    run(body)
    (call,) = seen.records
    assert call.place.session_name == "s"
    assert call.place.timestep == 0


def test_without_instrumenting_nothing_is_recorded_and_nothing_fails() -> None:
    with callspan.record_call(provider="vllm") as call:
        call.request(CHAT)
        call.attempt_started()
        call.response_headers(200)
        call.chunk({})
        call.response({})
        assert call.call_id is None


def test_an_unknown_api_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="use one of chat_completions, completions, decisions, embeddings"):
        callspan.record_call(provider="vllm", api="chats")  # type: ignore[arg-type]


BODY: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ANSWER: dict[str, object] = {"id": "r1", "choices": [{"message": {"role": "assistant", "content": "Hello!"}}]}
CHUNKS = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hel", "lo!")]
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def test_a_decorated_function_is_recorded_on_each_call(seen: Captured) -> None:
    class Client:
        @callspan.record_call(provider="mine")
        def complete(self, body: dict[str, object]) -> dict[str, object]:
            """Ask."""
            assert trace.get_current_span().get_span_context().is_valid
            return ANSWER

    @callspan.record_call(provider="mine")
    async def ask(body: dict[str, object]) -> dict[str, object]:
        return ANSWER

    assert Client().complete(BODY) is ANSWER
    assert Client().complete(body=BODY) is ANSWER
    assert asyncio.run(ask(BODY)) is ANSWER
    assert Client.complete.__doc__ == "Ask."
    assert [(call.provider, call.request.model, call.text, call.outcome) for call in seen.records] == [
        ("mine", "m", "Hello!", "success")
    ] * 3
    assert len({call.call_id for call in seen.records}) == 3


def test_a_decorated_generator_is_a_stream(seen: Captured) -> None:
    @callspan.record_call(provider="mine")
    def stream(body: dict[str, object], fail: bool = False) -> Iterator[object]:
        yield from CHUNKS
        if fail:
            raise ConnectionError("cut")
        yield LAST

    @callspan.record_call(provider="mine")
    async def streaming(body: dict[str, object]) -> AsyncIterator[object]:
        for chunk in (*CHUNKS, LAST):
            yield chunk

    async def read() -> list[object]:
        return [chunk async for chunk in streaming(BODY)]

    outside = trace.get_current_span()
    found = []
    for chunk in stream(BODY):
        assert trace.get_current_span() is outside
        found.append(chunk)
    assert found == [*CHUNKS, LAST]
    assert asyncio.run(read()) == [*CHUNKS, LAST]
    early = stream(BODY)
    assert next(early) is CHUNKS[0]  # type: ignore[call-overload]
    early.close()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        list(stream(BODY, fail=True))
    ends = [(call.text, call.outcome, call.stream.end if call.stream else None) for call in seen.records]
    assert ends == [
        ("Hello!", "success", "complete"),
        ("Hello!", "success", "complete"),
        ("Hel", "cancelled", "closed"),
        ("Hello!", "error", "error"),
    ]


def test_a_decorated_function_runs_alike_where_nothing_is_instrumented() -> None:
    @callspan.record_call(provider="mine")
    def complete(body: dict[str, object]) -> dict[str, object]:
        return ANSWER

    @callspan.record_call(provider="mine")
    def stream(body: dict[str, object]) -> Iterator[object]:
        yield from CHUNKS

    assert complete(BODY) is ANSWER
    assert list(stream(BODY)) == CHUNKS


SENT: list[dict[str, object]] = [{"role": "user", "content": "Hi"}]


def test_a_decorated_function_may_take_model_and_messages_instead_of_a_body(seen: Captured) -> None:
    """By name, as a list or as text; a whole body, a second text or another list is not mistaken for them."""
    mine: Any = callspan.record_call(provider="mine")

    @mine
    def create(*, model: str, messages: object, options: object = None, key: str = "k") -> object:
        return ANSWER

    @mine
    def ask(question: str, model: str = "m", system: str = "Be short.") -> object:
        return ANSWER

    @mine
    def chat(user_id: str, history: object, *more: object, **rest: object) -> object:
        return ANSWER

    @mine
    def prompted(tenant: str, prompt: str) -> object:
        return ANSWER

    class Client:
        @mine
        async def send(self, messages: object, model: str) -> object:
            return ANSWER

    create(model="m", messages=SENT, options={"a": 1})
    create(model="m", messages="Hi", key="other")
    ask("Hi")
    chat("u1", SENT, "x", model="m")
    chat("u1", (), **BODY)
    chat("u1", {"messages": SENT}, model="m")
    asyncio.run(Client().send(tuple(SENT), "m"))
    sent = [msgspec.json.decode(call.request.body) for call in seen.records]
    assert sent == [{"model": "m", "messages": SENT}] * 7
    prompted("t1", "Hi")
    chat("u1", ["no", "messages"], "which text?")
    assert [bytes(call.request.body) for call in seen.records[7:]] == [
        b'{"messages":[{"role":"user","content":"Hi"}]}', b"",
    ]  # fmt: skip


def test_arguments_that_do_not_fit_are_an_error_of_the_function_alone(
    seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    @callspan.record_call(provider="mine")
    def ask(question: str) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required"):
        ask()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        ask(body=BODY)  # type: ignore[call-arg]
    assert [call.request.model for call in seen.records] == [None, "m"]
    assert caplog.records == []
