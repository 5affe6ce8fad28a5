"""Other uses of streams and raw responses than reading them to the end."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pydantic
import pytest

from callspan.testing import Captured, ScriptedProvider
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.intercept.test_endings import QUESTION, Wire, text_of, the_call
from tests.intercept.test_entry_points import parsing

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
LONG = "one two three four five six seven eight nine ten"


class Weather(pydantic.BaseModel):
    city: str


@pytest.fixture(params=["chat_completions", "responses", "messages"])
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


async def _read(wire: Wire) -> None:
    await wire.mode.all(await wire.stream())


def test_an_answer_too_long_to_parse_raises_and_is_recorded_with_its_usage(
    mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text='{"city": "Par', finish_reason="length", input_tokens=9, output_tokens=3)
    with pytest.raises(openai.LengthFinishReasonError):
        run(lambda: mode.wait(parsing(mode).parse(**CHAT, response_format=Weather)))
    record = the_call(seen)
    # Before, the answer was parsed after the call, where nobody can see it fail.
    assert record.outcome == ("error" if sdks.OPENAI >= (1, 66) else "success")
    assert record.usage is not None
    assert record.usage.output_tokens == 3
    assert record.response is not None
    assert record.response.finish_reasons == ["length"]


def test_a_model_in_extra_body_is_the_model_of_the_call(mode: Mode, run: Run, seen: Captured) -> None:
    run(lambda: mode.wait(mode.openai().chat.completions.create(**CHAT, extra_body={"model": "other", "top_k": 3})))
    record = the_call(seen)
    assert record.request.model == "other"
    assert seen.spans[0].name == "chat other"
    assert bytes(record.request.body) == mode.provider.requests[0].content


def test_a_helper_never_entered_makes_no_call(seen: Captured, provider: ScriptedProvider) -> None:
    parsing(Mode("sync", provider)).stream(**CHAT)
    assert provider.requests == []
    assert seen.spans == []


ENDED = {
    "failed": ("response.failed", {"status": "failed", "error": {"code": "server_error", "message": "no"}}, "error"),
    "incomplete": (
        "response.incomplete",
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        "success",
    ),
}


@pytest.mark.parametrize("how", ENDED)
def test_a_response_that_says_it_failed_or_was_cut_is_reported_as_such(
    how: str, mode: Mode, run: Run, seen: Captured
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    name, event, outcome = ENDED[how]
    response = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    events = [
        {"type": "response.created", "sequence_number": 0, "response": {**response, "status": "in_progress"}},
        {"type": name, "sequence_number": 1, "response": {**response, **event}},
    ]
    mode.provider.reply(raw=events)
    run(lambda: _read(Wire("responses", mode)))
    record = the_call(seen)
    assert record.outcome == outcome
    assert record.usage is not None
    assert record.usage.input_tokens == 3
    assert record.stream is not None
    assert record.stream.complete


def test_resuming_a_stored_response_makes_no_second_call(mode: Mode, run: Run, seen: Captured) -> None:
    sdks.needs("openai", "2.0", "the resumption of a stream")

    async def body() -> None:
        client = mode.openai()
        response = await mode.wait(client.responses.create(model="gpt-5", input="hi"))
        await mode.all(await mode.wait(client.responses.retrieve(response.id, stream=True)))
        async with mode.entered(client.responses.stream(response_id=response.id)) as stream:
            await mode.all(stream)

    run(body)
    assert len(seen.records) == 1
    assert len(mode.provider.requests) == 3


def test_a_raw_stream_never_parsed_ends_when_dropped(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        raw = await mode.wait(mode.openai().chat.completions.with_raw_response.create(**CHAT, stream=True))
        del raw
        gc.collect()

    run(body)
    gc.collect()
    record = the_call(seen)
    assert record.outcome == "cancelled"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_streaming_response_never_read_ends_closed(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(**CHAT, stream=stream)
        async with mode.entered(manager):
            pass

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert record.attempts[0].status == 200


def test_a_streaming_response_left_early_keeps_what_was_read(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG, chunk_delay_s=0.01)

    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(**CHAT, stream=True)
        received = 0
        async with mode.entered(manager) as response:
            async for _ in mode.items(response.iter_lines()):
                received += 1
                if received == 9:
                    break

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert text_of(record)
    assert LONG.startswith(text_of(record))


def test_a_post_for_a_stream_is_a_streamed_call(mode: Mode, run: Run, seen: Captured) -> None:
    from openai.types.chat import ChatCompletionChunk

    mode.provider.reply(text=LONG)
    kind: Any = openai.AsyncStream if mode.is_async else openai.Stream

    async def body() -> None:
        stream = await mode.wait(
            mode.openai().post(
                "/chat/completions", cast_to=ChatCompletionChunk, body={**CHAT, "stream": True}, stream=True,
                stream_cls=kind[ChatCompletionChunk],
            )
        )  # fmt: skip
        await mode.all(stream)

    run(body)
    assert text_of(the_call(seen)) == LONG
