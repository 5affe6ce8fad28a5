"""Calls that continue what the provider keeps, by the real SDKs: in the store their conversations are whole again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import openai
import pytest

from callspan import open_store
from callspan.records import CallRecord
from callspan.stores import CallFilter, Reader, whole_conversation
from callspan.testing import capture
from tests.support import sdks
from tests.support.calls import Run
from tests.support.mode import Mode

pytestmark = pytest.mark.skipif(sdks.OPENAI < (1, 107), reason="openai has conversations since 1.107")
WHOLE = [f"{what} {number}" for number in range(3) for what in ("Question", "Answer")]


@contextmanager
def reading(store: str) -> Iterator[tuple[Reader, list[CallRecord]]]:
    """A reader, and all calls, oldest first."""
    with closing(open_store(store)) as reader:
        yield reader, [*reader.calls(CallFilter(newest_first=False))]


async def respond(mode: Mode, client: Any, number: int, *, stream: bool = False, **links: Any) -> str:
    """One question; returns the id of the response."""
    mode.provider.reply(text=f"Answer {number}")
    question = f"Question {number}"
    answer = await mode.wait(client.responses.create(model="gpt-5", input=question, stream=stream, **links))
    if not stream:
        return str(answer.id)
    return str([event.response.id async for event in mode.items(answer) if hasattr(event, "response")][-1])


@pytest.mark.parametrize("link", ["previous_response_id", "conversation"])
def test_responses_that_continue_what_the_provider_keeps(
    link: str, stream: bool, mode: Mode, run: Run, store: str
) -> None:
    async def body() -> list[str]:
        client, ids = mode.openai(), []
        for number in range(3):
            links: dict[str, Any] = {link: ids[-1]} if ids else {}
            if link == "conversation":
                links = {link: "conv_1" if number else {"id": "conv_1"}}
            ids.append(await respond(mode, client, number, stream=stream, **links))
        return ids

    with capture(stores=store):
        ids = run(body)
    continues = [None, *ids[:2]] if link == "previous_response_id" else [None] * 3
    with reading(store) as (reader, calls):
        assert [call.response and call.response.id for call in calls] == ids
        assert [call.request.continues for call in calls] == continues
        assert [call.request.conversation_id for call in calls] == [None if continues[1] else "conv_1"] * 3
        whole = whole_conversation(calls[2], reader.history(calls[2]))
        assert [message.text for message in (*whole.input, *whole.output)] == WHOLE


def test_a_link_that_leads_nowhere_is_stated(mode: Mode, run: Run, store: str) -> None:
    """Another program got the response, or the provider has deleted it."""
    error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "There is none."}

    async def body() -> None:
        client, last = mode.openai(), "resp_elsewhere"
        for number in (1, 2):
            last = await respond(mode, client, number, previous_response_id=last)
        mode.provider.reply(status=400, raw={"error": error})
        with pytest.raises(openai.BadRequestError):
            await respond(mode, client, 3, previous_response_id=last)

    with capture(stores=store):
        run(body)
    with reading(store) as (reader, calls):
        assert [call.outcome for call in calls] == ["success", "success", "error"]
        assert [reader.history(call).missing for call in calls] == ["resp_elsewhere"] * 3
