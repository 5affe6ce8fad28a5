"""Other uses of streams and raw responses than reading them to the end."""

from __future__ import annotations

import pytest

from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import Run, Wire, the_call
from tests.intercept.mode import Mode


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
