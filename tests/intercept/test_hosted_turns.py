"""Sessions of openai's agents: one record for each turn, with the latest usage, however often it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from callspan.record.ids import response_call_id
from callspan.records import CallRecord, EventRecord, SessionRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
pytestmark = pytest.mark.skipif(sdks.OPENAI < (3, 54), reason="needs the agents of openai 3.54")
AGENT = {"model": "gpt-5", "name": "Finder", "instructions": "You find files."}
LOOK = {"name": "search", "arguments": {"query": "files"}, "result": "a.txt"}
WEATHER = {"name": "weather", "arguments": {"city": "Rome"}, "id": "call_1"}


async def session(mode: Mode, client: Any, **more: Any) -> Any:
    return await mode.wait(
        client.beta.agents.sessions.create(agent=AGENT, environment={"type": "none"}, metadata={"a": "b"}, **more)
    )


async def read(mode: Mode, stream: Any) -> list[Any]:
    """The events of a stream until the agent is idle."""
    found = []
    async for event in mode.items(stream):
        found.append(event)
        if event.type in ("agent.session.idle", "agent.session.requires_action"):
            break
    await mode.wait(stream.close())
    return found


async def turns(mode: Mode, client: Any, session_id: str) -> list[Any]:
    pages = client.beta.agents.sessions.turns.list(session_id)
    return await mode.all(pages) if mode.is_async else list(pages)


def versions(seen: Captured) -> list[str]:
    return [record.outcome for record in seen.everything if isinstance(record, CallRecord)]


def texts(record: CallRecord) -> list[str | None]:
    known = record.conversation
    assert known is not None
    return [part.text for part in known.input]


def test_a_turn_is_one_record(mode: Mode, run: Run, seen: Captured) -> None:
    """Its model calls together, with the messages that were sent; tools of the provider are events."""
    mode.provider.reply(text="Let me look.", tool_calls=[LOOK], input_tokens=100, output_tokens=10, reasoning_tokens=4)
    mode.provider.reply(text="There is one file.", input_tokens=120, output_tokens=8, cache_read_tokens=64)

    async def body() -> tuple[str, list[Any]]:
        client = mode.openai()
        found = await session(mode, client, input="What is here?", stream=True)
        events = await read(mode, found)
        return events[0].session.id, events

    session_id, events = run(body)
    (turn,) = [event.turn for event in events if event.type == "agent.session.turn.completed"]
    (record,) = seen.records
    assert versions(seen) == ["in_progress", "success"]
    assert (record.call_id, record.api) == (response_call_id("openai", turn.id), "agent_sessions")
    assert (record.operation, record.request.model, record.place.session_id) == ("invoke_agent", "gpt-5", session_id)
    assert record.response is not None
    assert (record.response.id, record.response.status) == (turn.id, "completed")
    usage = record.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (220, 18, 238)
    assert (usage.cache_read_tokens, usage.reasoning_tokens) == (64, 4)
    assert "Let me look." in str(record.text)
    assert "There is one file." in str(record.text)
    assert texts(record) == ["What is here?"]
    assert record.conversation is not None
    assert [part.text for part in record.conversation.system] == ["You find files."]
    assert [(call.name, call.tool_type) for call in record.tool_calls] == [("search", "mcp")]
    ran, span = sorted(seen.spans, key=lambda one: one.kind is SpanKind.CLIENT)
    assert ran.name == "execute_tool search"
    shown = dict(span.attributes or {})
    assert (span.name, shown["gen_ai.usage.input_tokens"]) == ("invoke_agent Finder", 220)
    assert (shown["gen_ai.agent.name"], shown["gen_ai.request.model"]) == ("Finder", "gpt-5")
    assert (shown["session.id"], shown["gen_ai.response.status"]) == (session_id, "completed")
    (tool,) = [one for one in seen.everything if isinstance(one, EventRecord)]
    assert (tool.name, tool.data, tool.metadata["server"]) == (
        "search", {"arguments": {"query": "files"}, "result": "a.txt"}, "scripted"
    )  # fmt: skip
    sessions = [one for one in seen.everything if isinstance(one, SessionRecord)]
    assert sessions[-1].outcome == "idle"
    stated = sessions[-1].metadata["reported_usage"]
    assert isinstance(stated, dict)
    assert stated["total_tokens"] == 238


def test_what_was_sent_is_the_input_of_the_turn(mode: Mode, run: Run, seen: Captured) -> None:
    """By the helper of the SDK, which runs the application's tools and sends their results."""
    mode.provider.reply(tool_calls=[WEATHER], input_tokens=50, output_tokens=5)
    mode.provider.reply(text="Sunny.", input_tokens=60, output_tokens=6)

    async def body() -> list[str]:
        client = mode.openai()
        found = await session(mode, client)
        stream = client.beta.agents.sessions.stream(
            found.id, input="The weather?", tool_handlers={"weather": lambda _: "25 degrees"}
        )
        async with mode.entered(stream) as events:
            return [event.type for event in await mode.all(events)]

    types = run(body)
    assert types[-1] == "agent.session.idle"
    (record,) = seen.records
    assert texts(record)[0] == "The weather?"
    known = record.conversation
    assert known is not None
    assert "25 degrees" in str(known.input[1])
    assert [call.name for call in record.tool_calls] == ["weather"]
    assert record.usage is not None
    assert record.usage.total_tokens == 121
    assert not [one for one in seen.everything if isinstance(one, EventRecord)]


def test_listing_turns_after_the_stream_adds_nothing(mode: Mode, run: Run, seen: Captured) -> None:
    """Nor does retrieving them, or listing them alone more than once."""
    mode.provider.reply(text="One.", input_tokens=10, output_tokens=1)

    async def body() -> int:
        client = mode.openai()
        found = await session(mode, client, input="Count.")
        await read(mode, await mode.wait(client.beta.agents.sessions.events.stream(found.id)))
        before = len(seen.everything)
        for _ in range(2):
            (turn,) = await turns(mode, client, found.id)
            await mode.wait(client.beta.agents.sessions.turns.retrieve(turn.id, session_id=found.id))
        return before

    before = run(body)
    assert len(seen.everything) == before
    assert (len(seen.records), len(seen.spans), seen.records[0].text) == (1, 1, "One.")


def test_listed_turns_are_recorded_without_content(mode: Mode, run: Run, seen: Captured) -> None:
    """A process that did not read the events has tokens, times and outcome."""
    mode.provider.reply(text="One.", input_tokens=10, output_tokens=1)
    mode.provider.reply(finish_reason="error", error_code="server_overloaded", message="Busy.")

    async def body() -> None:
        client = mode.openai()
        found = await session(mode, client, input="Count.")
        more = {"type": "agent.session.input.message", "input": [{"role": "user", "content": "And on?"}]}
        await mode.wait(client.beta.agents.sessions.events.create(found.id, events=[more]))
        for _ in range(2):
            assert len(await turns(mode, client, found.id)) == 2

    run(body)
    by_outcome = {record.outcome: record for record in seen.records}
    assert set(by_outcome) == {"success", "error"}
    done, failed = by_outcome["success"], by_outcome["error"]
    assert done.usage is not None
    assert (done.usage.total_tokens, done.text) == (11, None)
    assert failed.error is not None
    assert (failed.error.code or failed.error.type, failed.error.message) == ("server_overloaded", "Busy.")
    assert len(seen.spans) == 2


def test_the_latest_usage_counts(mode: Mode, run: Run, seen: Captured) -> None:
    """What a turn states later replaces what it stated before; no span, and content stays."""
    mode.provider.reply(text="One.", usage={})

    async def body() -> None:
        client = mode.openai()
        found = await session(mode, client, input="Count.")
        events = await read(mode, await mode.wait(client.beta.agents.sessions.events.stream(found.id)))
        (turn,) = [event.turn for event in events if event.type == "agent.session.turn.completed"]
        assert turn.usage is None
        for total in (30, 40, 40):
            usage = {
                "input_tokens": total - 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": total,
            }  # fmt: skip
            mode.provider.reply(on=f"/turns/{turn.id}", raw={**turn.to_dict(), "usage": usage})
            await mode.wait(client.beta.agents.sessions.turns.retrieve(turn.id, session_id=found.id))

    run(body)
    (record,) = seen.records
    assert versions(seen) == ["in_progress", "success", "success", "success"]
    assert record.usage is not None
    assert (record.usage.total_tokens, record.text, texts(record)) == (40, "One.", ["Count."])
    assert len(seen.spans) == 1


def test_turns_of_subagents_are_records_of_their_own(mode: Mode, run: Run, seen: Captured) -> None:
    """In the same session; their model is not known."""
    mode.provider.reply(text="One.", input_tokens=10, output_tokens=1)

    async def body() -> None:
        client = mode.openai()
        found = await session(mode, client, input="Count.")
        await read(mode, await mode.wait(client.beta.agents.sessions.events.stream(found.id)))
        turn = (await turns(mode, client, found.id))[0].to_dict()
        below = {**turn, "id": "turn_below", "subagent_id": "sub_1"}
        mode.provider.reply(on="/subagents/sub_1/turns", raw={"data": [below], "has_more": False, "object": "list"})
        pages = client.beta.agents.sessions.subagents.turns.list("sub_1", session_id=found.id)
        await mode.all(pages) if mode.is_async else list(pages)

    run(body)
    root, below = seen.records
    assert (root.request.model, below.request.model) == ("gpt-5", None)
    assert root.place.session_id == below.place.session_id
    assert below.usage is not None
    assert below.usage.total_tokens == 11


def test_a_stream_that_breaks_off_leaves_the_turn_in_progress(mode: Mode, run: Run, seen: Captured) -> None:
    """Until its end is listed."""
    mode.provider.reply(text="One.", input_tokens=10, output_tokens=1)
    mode.provider.reply(on="/events", cut_after=5)

    async def body() -> None:
        client = mode.openai()
        found = await session(mode, client, input="Count.")
        stream = await mode.wait(client.beta.agents.sessions.events.stream(found.id))
        with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection"):
            await read(mode, stream)
        assert versions(seen) == ["in_progress"]
        await turns(mode, client, found.id)

    run(body)
    (record,) = seen.records
    assert (record.outcome, record.usage and record.usage.total_tokens) == ("success", 11)
