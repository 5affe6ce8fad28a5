"""Background responses: a call in progress, completed once by whoever fetches its answer first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callspan.record.call import CallRecord
from callspan.record.ids import is_of_response, response_call_id
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
pytestmark = pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")


def create(mode: Mode, **more: Any) -> Any:
    return mode.openai().responses.create(model="gpt-5", input="How are you?", background=True, **more)


def the_call(seen: Captured) -> CallRecord:
    (record,) = seen.records
    return record


def attributes(seen: Captured, number: int = 0) -> dict[str, Any]:
    return dict(seen.spans[number].attributes or {})


def test_a_queued_response_is_in_progress(mode: Mode, run: Run, seen: Captured) -> None:
    """No tokens, no success, no error; the span has the status."""

    async def body() -> str:
        return str((await mode.wait(create(mode))).id)

    response_id = run(body)
    record = the_call(seen)
    assert (record.outcome, record.usage, record.error, record.record_version) == ("in_progress", None, None, 2)
    assert record.response is not None
    assert record.response.status == "queued"
    assert record.call_id == response_call_id("openai", response_id)
    assert is_of_response(record.call_id)
    (span,) = seen.spans
    shown = attributes(seen)
    assert (shown["gen_ai.response.status"], shown["callspan.outcome"]) == ("queued", "in_progress")
    assert shown["callspan.call_id"] == shown["llm.item_id"] == record.call_id
    assert "gen_ai.usage.input_tokens" not in shown
    assert span.status.is_unset


def test_a_stream_in_the_background_that_ends_is_an_ordinary_call(mode: Mode, run: Run, seen: Captured) -> None:
    """Its id is that of the response all the same: others may fetch it."""

    async def body() -> None:
        await mode.all(await mode.wait(create(mode, stream=True)))

    run(body)
    record = the_call(seen)
    assert (record.outcome, record.usage is not None, is_of_response(record.call_id)) == ("success", True, True)
    first, _ = seen.everything
    assert isinstance(first, CallRecord)
    assert first.call_id == record.call_id
    assert (first.record_version, first.outcome) == (1, "in_progress")


def test_a_stream_in_the_background_that_is_left_stays_in_progress(mode: Mode, run: Run, seen: Captured) -> None:
    """The provider continues; how the stream ended is known."""

    async def body() -> None:
        stream = await mode.wait(create(mode, stream=True))
        for _ in range(5):
            await mode.next(stream)
        await mode.wait(stream.close())

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("in_progress", "closed")


def test_other_streams_that_are_left_are_cancelled(mode: Mode, run: Run, seen: Captured) -> None:
    """Their response is in progress for ever."""

    async def body() -> None:
        stream = await mode.wait(mode.openai().responses.create(model="gpt-5", input="Hi", stream=True))
        for _ in range(5):
            await mode.next(stream)
        await mode.wait(stream.close())

    run(body)
    record = the_call(seen)
    assert (record.outcome, is_of_response(record.call_id)) == ("cancelled", False)
