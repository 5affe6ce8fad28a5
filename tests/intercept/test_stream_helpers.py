"""Streams: what the SDKs' helpers raise, other uses than reading to the end, and those without their last event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from pydantic import BaseModel

from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, Wire, bedrock, parsing, text_of, the_call
from tests.intercept.mode import Mode


class Weather(BaseModel):
    degrees: int


class Helper:
    """One helper of one SDK, whose answer is to be parsed."""

    def __init__(self, api: str, mode: Mode) -> None:
        self.api, self.mode = api, mode

    def stream(self) -> Any:
        if self.api == "messages":
            messages = self.mode.anthropic().messages
            return messages.stream(model="m", max_tokens=9, messages=QUESTION, output_format=Weather)
        if self.api == "responses":
            return self.mode.openai().responses.stream(model="m", input="Hi", text_format=Weather)
        return parsing(self.mode).stream(model="gpt-5", messages=QUESTION, response_format=Weather)

    def final(self, stream: Any) -> Any:
        names = {"chat": "get_final_completion", "responses": "get_final_response", "messages": "get_final_message"}
        return getattr(stream, names[self.api])()


@pytest.fixture(params=["chat", "responses", "messages"])
def helper(request: pytest.FixtureRequest, mode: Mode) -> Helper:
    if request.param == "messages":
        sdks.needs("anthropic", "1.0", "parsed streams")
    if request.param == "responses":
        sdks.needs("openai", "1.70", "parsed streams of Responses")
    return Helper(request.param, mode)


async def read(helper: Helper, how: str) -> None:
    async with helper.mode.entered(helper.stream()) as stream:
        if how == "iterated":
            await helper.mode.all(stream)
        elif how == "until_done":
            await helper.mode.wait(stream.until_done())
        else:
            await helper.mode.wait(helper.final(stream))


def the_record(seen: Captured) -> CallRecord:
    (record,) = seen.records
    (span,) = seen.spans
    is_error = record.outcome == "error"
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    return record


@pytest.mark.parametrize("how", ["iterated", "until_done", "final"])
def test_an_answer_that_cannot_be_parsed_is_an_error_of_the_call(
    helper: Helper, how: str, run: Run, seen: Captured
) -> None:
    helper.mode.provider.reply(text="It is warm.", input_tokens=11, output_tokens=4)
    with pytest.raises(ValueError, match="expected ident"):
        run(lambda: read(helper, how))
    record = the_record(seen)
    assert record.error is not None
    # The openai SDK raises a plain `ValueError` for chat.
    assert (record.outcome, record.error.kind) == ("error", "unknown" if helper.api == "chat" else "parsing")
    assert record.stream is not None
    assert record.stream.end == "error"


@pytest.mark.parametrize("how", ["iterated", "until_done", "final"])
def test_an_answer_cut_by_its_limit_is_an_error_of_the_call(mode: Mode, how: str, run: Run, seen: Captured) -> None:
    mode.provider.reply(text='{"degrees":', finish_reason="length", input_tokens=11, output_tokens=4)
    with pytest.raises(Exception, match="length limit"):
        run(lambda: read(Helper("chat", mode), how))
    record = the_record(seen)
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("error", "parsing")
    assert record.error.exception == "openai.LengthFinishReasonError"


@pytest.mark.parametrize("how", ["iterated", "until_done", "final"])
def test_an_answer_that_is_parsed_is_a_success(helper: Helper, how: str, run: Run, seen: Captured) -> None:
    helper.mode.provider.reply(text='{"degrees": 21}')
    run(lambda: read(helper, how))
    record = the_record(seen)
    assert (record.outcome, record.error) == ("success", None)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)


def test_an_exception_of_the_application_in_its_loop_is_not_the_calls(helper: Helper, run: Run, seen: Captured) -> None:
    helper.mode.provider.reply(text='{"degrees": 21}')

    async def body() -> None:
        async with helper.mode.entered(helper.stream()) as stream:
            async for _ in helper.mode.items(stream):
                raise KeyError("mine")

    with pytest.raises(KeyError):
        run(body)
    record = the_record(seen)
    assert (record.outcome, record.error) == ("cancelled", None)
    assert record.stream is not None
    assert record.stream.end == "closed"


@pytest.fixture(params=["chat_completions", "responses", "messages"])
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


async def _read(wire: Wire) -> None:
    await wire.mode.all(await wire.stream())


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


APIS = ["chat", "completions", "responses", "messages", "bedrock"]


def open_stream(api: str, mode: Mode) -> Any:
    if api == "messages":
        create = mode.anthropic().messages.create
        return create(model="claude-sonnet-5", max_tokens=64, messages=QUESTION, stream=True)
    if api == "bedrock":
        return bedrock(mode).messages.create(
            model="anthropic.claude-sonnet-5", max_tokens=64, messages=QUESTION, stream=True
        )
    if api == "responses":
        sdks.needs("openai", "1.66", "the Responses API")
        return mode.openai().responses.create(model="gpt-5", input="How are you?", stream=True)
    if api == "completions":
        return mode.openai().completions.create(model="gpt-5", prompt="How are you?", stream=True)
    return mode.openai().chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)


def facts(record: CallRecord, seen: Captured) -> tuple[object, object, object]:
    assert record.stream is not None
    attributes = seen.spans[0].attributes
    assert attributes is not None
    assert attributes["callspan.stream.end"] == record.stream.end
    return record.outcome, record.stream.end, record.stream.complete


async def read_whole(api: str, mode: Mode) -> None:
    await mode.all(await mode.wait(open_stream(api, mode)))


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_just_stops_is_cut_off_and_a_success(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well today.", end_after=4)
    run(lambda: read_whole(api, mode))
    assert facts(record := the_call(seen), seen) == ("success", "cut_off", False)
    assert record.error is None


@pytest.mark.parametrize("api", ["responses", "messages", "bedrock"])
def test_only_the_terminal_event_makes_a_stream_of_events_complete(
    api: str, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="I am well today.", end_after=-1)
    run(lambda: read_whole(api, mode))
    assert facts(the_call(seen), seen) == ("success", "cut_off", False)


def chunk(api: str, text: str) -> dict[str, object]:
    piece = {"text": text} if api == "completions" else {"delta": {"content": text}}
    return {"id": "c1", "object": "chunk", "model": "m", "choices": [{"index": 0, "finish_reason": None, **piece}]}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("is_done", [True, False])
def test_done_is_enough_without_a_finish_reason(api: str, is_done: bool, mode: Mode, run: Run, seen: Captured) -> None:
    events: list[object] = [chunk(api, "I am "), chunk(api, "well.")]
    mode.provider.reply(raw=[*events, "[DONE]"] if is_done else events)
    run(lambda: read_whole(api, mode))
    record = the_call(seen)
    assert facts(record, seen) == ("success", "complete" if is_done else "cut_off", is_done)
    assert text_of(record) == "I am well."
    assert record.response is not None
    assert record.response.finish_reasons == [None]


def test_one_of_two_choices_without_its_end_is_cut_off(mode: Mode, run: Run, seen: Captured) -> None:
    done = {"id": "c1", "object": "chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    other = {"id": "c1", "object": "chunk", "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]}
    mode.provider.reply(raw=[other, done])
    run(lambda: read_whole("chat", mode))
    assert facts(the_call(seen), seen) == ("success", "cut_off", False)


def test_done_in_the_bytes_of_a_raw_response_is_enough(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(raw=[chunk("chat", "I am well."), "[DONE]"])

    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(
            model="gpt-5", messages=QUESTION, stream=True
        )
        async with mode.entered(manager) as response:
            await mode.all(response.iter_bytes())

    run(body)
    assert facts(the_call(seen), seen) == ("success", "complete", True)


def test_an_event_too_long_to_parse_does_not_make_a_stream_cut_off(mode: Mode, run: Run, seen: Captured) -> None:
    """Of the bytes of a raw response copies are parsed up to 8 MiB an event: what follows is unknown."""
    long = "data: " + json.dumps(chunk("chat", "x" * (9 << 20))) + "\n\ndata: [DONE]\n\n"
    mode.provider.reply(raw=long.encode(), headers={"content-type": "text/event-stream"})

    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(
            model="gpt-5", messages=QUESTION, stream=True
        )
        async with mode.entered(manager) as response:
            await mode.all(response.iter_bytes())

    run(body)
    assert facts(the_call(seen), seen) == ("success", "complete", False)
