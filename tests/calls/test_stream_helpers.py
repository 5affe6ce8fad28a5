"""The SDKs' helpers for streams: each way to use one has its end, also where the helper raises; resumed streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from callspan.testing import Captured
from tests.support import sdks
from tests.support.calls import CHAT, MESSAGE, REQUESTS, Run, caught, parsing, text_of, the_call
from tests.support.mode import Mode


class Weather(BaseModel):
    degrees: int


HELPERS = ("chat", "responses", "messages", "beta messages")
FINALS = {"chat": "get_final_completion", "responses": "get_final_response"}


class Helper(NamedTuple):
    """One helper of one SDK, whose answer is to be parsed or not."""

    name: str
    mode: Mode
    parses: bool

    def stream(self) -> Any:
        if self.name == "chat":
            return parsing(self.mode).stream(**CHAT, **({"response_format": Weather} if self.parses else {}))
        if self.name == "responses":
            sdks.needs("openai", "1.70", "parsed streams of Responses")
            given = {"text_format": Weather} if self.parses else {}
            return self.mode.openai().responses.stream(**REQUESTS["responses"], **given)
        if self.parses:
            sdks.needs("anthropic", "1.0", "parsed streams")
        client = self.mode.anthropic()
        if self.name == "beta messages":
            sdks.needs_name(client, "beta.messages.stream")
            client = client.beta
        return client.messages.stream(**MESSAGE, **({"output_format": Weather} if self.parses else {}))


async def iterate(mode: Mode, stream: Any) -> None:
    await mode.all(stream)


async def read_text(mode: Mode, stream: Any) -> None:
    if not hasattr(stream, "text_stream"):
        pytest.skip("only messages have a stream of text")
    await mode.all(stream.text_stream)


async def until_done(mode: Mode, stream: Any) -> None:
    await mode.wait(stream.until_done())


async def final(mode: Mode, stream: Any) -> None:
    method = next(name for name in (*FINALS.values(), "get_final_message") if hasattr(stream, name))
    await mode.wait(getattr(stream, method)())


async def leave(mode: Mode, stream: Any) -> None:
    async for _ in mode.items(stream):
        break


async def leave_unread(mode: Mode, stream: Any) -> None:
    del mode, stream


async def fail(mode: Mode, stream: Any) -> None:
    async for _ in mode.items(stream):
        raise KeyError("of the application")


Use = Callable[[Mode, Any], Awaitable[None]]


async def used(helper: Helper, use: Use) -> None:
    async with helper.mode.entered(helper.stream()) as stream:
        await use(helper.mode, stream)


@pytest.mark.parametrize("use", [iterate, read_text, until_done, final, leave, leave_unread, fail])
@pytest.mark.parametrize("name", HELPERS)
def test_each_use_of_a_helper_has_its_end(name: str, use: Use, mode: Mode, run: Run, seen: Captured) -> None:
    is_left = use in (leave, leave_unread, fail)
    mode.provider.reply(text="I am well.", **({"chunk_delay_s": 60} if is_left else {}))
    raised = caught(run, lambda: used(Helper(name, mode, parses=False), use))
    assert isinstance(raised, KeyError if use is fail else type(None))
    record = the_call(seen)
    assert record.stream is not None
    assert record.error is None
    if is_left:
        assert (record.outcome, record.stream.end) == ("cancelled", "closed")
        assert (record.stream.chunks == 0) == (use is leave_unread)
    else:
        assert (record.outcome, record.stream.end, record.stream.complete) == ("success", "complete", True)
        assert text_of(record) == "I am well."


ANSWERS: dict[str, tuple[tuple[str, ...], dict[str, Any], str | None, str | None]] = {
    # helpers, what is scripted, kind of the error, its class
    "parsed": (HELPERS[:3], {"text": '{"degrees": 21}'}, None, None),
    "unparsable chat": (HELPERS[:1], {"text": "It is warm."}, "unknown", None),  # the SDK raises a plain ValueError
    "unparsable": (HELPERS[1:3], {"text": "It is warm."}, "parsing", None),
    "cut": (
        HELPERS[:1], {"text": '{"degrees":', "finish_reason": "length"}, "parsing", "openai.LengthFinishReasonError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("use", [iterate, until_done, final])
@pytest.mark.parametrize(("answer", "name"), [(answer, name) for answer in ANSWERS for name in ANSWERS[answer][0]])
def test_an_answer_that_cannot_be_parsed_is_an_error_of_the_call(
    answer: str, name: str, use: Use, mode: Mode, run: Run, seen: Captured
) -> None:
    _, reply, kind, exception = ANSWERS[answer]
    mode.provider.reply(**reply)
    raised = caught(run, lambda: used(Helper(name, mode, parses=True), use))
    record = the_call(seen)
    assert record.stream is not None
    assert (raised is None, record.error and record.error.kind) == (kind is None, kind)
    assert (record.outcome, record.stream.end) == (("success", "complete") if kind is None else ("error", "error"))
    assert exception is None or (record.error and record.error.exception) == exception


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
