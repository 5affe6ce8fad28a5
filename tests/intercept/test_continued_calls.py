"""Calls that continue what the provider keeps, by the real SDKs: in the store their conversations are whole again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan import open_store
from callspan.records import CallRecord
from callspan.stores import CallFilter, Reader, whole_conversation
from tests.intercept import sdks
from tests.intercept.calls import Run
from tests.intercept.mode import Mode

pytestmark = pytest.mark.skipif(sdks.OPENAI < (1, 107), reason="openai has conversations since 1.107")
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
WHOLE = [f"{what} {number}" for number in range(3) for what in ("Question", "Answer")]


class Recorded:
    """A store and what is read of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._readers = ExitStack()
        self.start()

    def start(self) -> None:
        """Record from now on, until `uninstrument`."""
        self._handle = callspan.instrument(stores=self.url)

    def calls(self) -> tuple[Reader, list[CallRecord]]:
        """A reader, and all calls, oldest first."""
        assert self._handle.force_flush()
        reader = self._readers.enter_context(closing(open_store(self.url)))
        return reader, [*reader.calls(CallFilter(newest_first=False))]

    def close(self) -> None:
        """Close the readers."""
        self._readers.close()

    def texts(self, number: int) -> list[str | None]:
        """The messages of a call with those of the calls before it."""
        reader, calls = self.calls()
        whole = whole_conversation(calls[number], reader.history(calls[number]))
        return [message.text for message in (*whole.input, *whole.output)]

    def run(self, *arguments: str) -> str:
        """What a command prints; a test that needs it is skipped where the command is not installed."""
        testing = pytest.importorskip("click.testing")
        command = pytest.importorskip("callspan.cli.commands").callspan
        assert self._handle.force_flush()
        result = testing.CliRunner().invoke(command, ["--store", self.url, *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return str(result.output)

    def shown(self, call: CallRecord) -> str:
        """What `show` says of the calls before a call, up to the first message."""
        page = self.run("show", call.call_id)
        return " ".join(page.partition("continues")[2].partition("\n\n")[0].split())


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    with closing(Recorded(f"sqlite:///{tmp_path}/calls.db")) as store:
        yield store
    callspan.uninstrument()


async def respond(mode: Mode, client: Any, number: int, *, stream: bool = False, **links: Any) -> str:
    """One question; returns the id of the response."""
    mode.provider.reply(text=f"Answer {number}")
    question = f"Question {number}"
    answer = await mode.wait(client.responses.create(model="gpt-5", input=question, stream=stream, **links))
    if not stream:
        return str(answer.id)
    return str([event.response.id async for event in mode.items(answer) if hasattr(event, "response")][-1])


@plain_and_streamed
@pytest.mark.parametrize("link", ["previous_response_id", "conversation"])
def test_responses_that_continue_what_the_provider_keeps(
    link: str, stream: bool, mode: Mode, run: Run, recorded: Recorded
) -> None:
    async def body() -> list[str]:
        client, ids = mode.openai(), []
        with callspan.session("talk", session_id="talk"):
            for number in range(3):
                links: dict[str, Any] = {link: ids[-1]} if ids else {}
                if link == "conversation":
                    links = {link: "conv_1" if number else {"id": "conv_1"}}
                ids.append(await respond(mode, client, number, stream=stream, **links))
        return ids

    ids = run(body)
    _, calls = recorded.calls()
    assert [call.response and call.response.id for call in calls] == ids
    continues = [None, *ids[:2]] if link == "previous_response_id" else [None] * 3
    assert [call.request.continues for call in calls] == continues
    assert [call.request.conversation_id for call in calls] == [None if continues[1] else "conv_1"] * 3
    assert recorded.texts(2) == WHOLE
    assert recorded.shown(calls[2]) == f"{continues[2] or 'conv_1'} 2 calls, the first {calls[0].call_id}"
    page = recorded.run("show", calls[2].call_id)
    assert f"response    {ids[2]}\nrequest     {calls[2].request_id}\n" in page


def test_a_link_that_leads_nowhere_is_stated(mode: Mode, run: Run, recorded: Recorded) -> None:
    """Another program got the response, or the provider has deleted it."""
    error = {"type": "invalid_request_error", "code": "previous_response_not_found", "message": "There is none."}

    async def body() -> list[str]:
        client = mode.openai()
        ids = ["resp_elsewhere"]
        with callspan.session("talk", session_id="talk"):
            for number in (1, 2):
                ids.append(await respond(mode, client, number, previous_response_id=ids[-1]))
            mode.provider.reply(status=400, raw={"error": error})
            with pytest.raises(openai.BadRequestError):
                await respond(mode, client, 3, previous_response_id=ids[-1])
        return ids

    ids = run(body)
    reader, calls = recorded.calls()
    assert [call.outcome for call in calls] == ["success", "success", "error"]
    assert [reader.history(call).missing for call in calls] == [ids[0]] * 3
    nowhere = f"which continues {ids[0]}, a response of no recorded call"
    assert recorded.shown(calls[0]) == f"{ids[0]} a response of no recorded call"
    assert recorded.shown(calls[1]) == f"{ids[1]} call {calls[0].call_id}, {nowhere}"
    assert recorded.shown(calls[2]) == f"{ids[2]} 2 calls, the first {calls[0].call_id}, {nowhere}"


def test_background_responses_that_continue_each_other(mode: Mode, run: Run, recorded: Recorded) -> None:
    """In a process that fetches what another program created, the response says what it continues."""

    async def body() -> None:
        client = mode.openai()
        callspan.uninstrument()
        ids = [await respond(mode, client, 0, background=True)]
        ids.append(await respond(mode, client, 1, background=True, previous_response_id=ids[0]))
        recorded.start()
        ids.append(await respond(mode, client, 2, background=True, previous_response_id=ids[1]))
        for response_id in (*ids, *ids):
            await mode.wait(client.responses.retrieve(response_id))

    run(body)
    reader, calls = recorded.calls()
    assert [call.outcome for call in calls] == ["success"] * 3
    (last,) = [call for call in calls if call.text == "Answer 2"]
    history = reader.history(last)
    assert [call.text for call in history.calls] == ["Answer 0", "Answer 1"]
    assert (history.missing, history.more) == (None, False)
