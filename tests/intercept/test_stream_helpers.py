"""What the SDKs' stream helpers raise is the error of the call; what the application raises in its loop is not."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from pydantic import BaseModel

from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import Run
from tests.intercept.mode import Mode
from tests.intercept.test_entry_points import CHAT, parsing


class Weather(BaseModel):
    degrees: int


class Helper:
    """One helper of one SDK, whose answer is to be parsed."""

    def __init__(self, api: str, mode: Mode) -> None:
        self.api, self.mode = api, mode

    def stream(self) -> Any:
        if self.api == "messages":
            messages = self.mode.anthropic().messages
            return messages.stream(model="m", max_tokens=9, messages=CHAT["messages"], output_format=Weather)
        if self.api == "responses":
            return self.mode.openai().responses.stream(model="m", input="Hi", text_format=Weather)
        return parsing(self.mode).stream(**CHAT, response_format=Weather)

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


def test_a_final_answer_that_is_refused_only_at_the_end_is_an_error(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="one two", finish_reason="length", input_tokens=11, output_tokens=4)

    async def body() -> None:
        async with mode.entered(parsing(mode).stream(**CHAT)) as stream:
            await mode.wait(stream.get_final_completion())

    with pytest.raises(Exception, match="length limit"):
        run(body)
    record = the_record(seen)
    assert (record.outcome, record.stream and record.stream.end) == ("error", "error")
    assert record.usage is None or record.usage.output_tokens == 4


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
