"""Sessions of anthropic's managed agents: one record for each model request, however often its events are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind

import callspan
from callspan.record.ids import response_call_id
from callspan.records import CallRecord, EventRecord, SessionRecord
from callspan.stores.urls import open_store
from callspan.testing import Captured, capture
from callspan.wiring import WIRING
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
pytestmark = pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="the test needs the sessions of anthropic 2")
AGENT = {
    "type": "agent", "id": "agent_1", "model": "claude-sonnet-4-5", "name": "Finder", "system": "You find files.",
}  # fmt: skip
LOOK = {"name": "bash", "arguments": {"command": "ls"}, "result": "a.txt"}


def message(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


async def session(mode: Mode, client: Any, **more: Any) -> str:
    return str((await mode.wait(client.beta.sessions.create(agent=AGENT, environment_id="env_1", **more))).id)


async def send(mode: Mode, client: Any, session_id: str, text: str) -> None:
    await mode.wait(client.beta.sessions.events.send(session_id, events=[message(text)]))


async def read(mode: Mode, client: Any, session_id: str) -> list[Any]:
    """The events of a stream until the agent is idle."""
    found = []
    stream = await mode.wait(client.beta.sessions.events.stream(session_id))
    async for event in mode.items(stream):
        found.append(event)
        if event.type == "session.status_idle":
            break
    await mode.wait(stream.close())
    return found


async def asked(mode: Mode, client: Any) -> str:
    """A session whose agent was asked a question, read until it is idle."""
    session_id = await session(mode, client)
    await send(mode, client, session_id, "What is here?")
    await read(mode, client, session_id)
    return session_id


async def listed(mode: Mode, client: Any, session_id: str, **more: Any) -> list[Any]:
    pages = client.beta.sessions.events.list(session_id, **more)
    return await mode.all(pages) if mode.is_async else list(pages)


def calls(seen: Captured) -> list[CallRecord]:
    """All versions of all calls, in the order in which they were written."""
    return [record for record in seen.everything if isinstance(record, CallRecord)]


def tools(seen: Captured) -> list[EventRecord]:
    return [record for record in seen.everything if isinstance(record, EventRecord)]


def script(mode: Mode) -> None:
    """Two model requests: one uses a tool of the provider's, the other answers."""
    mode.provider.reply(
        text="Let me look.", tool_calls=[LOOK], input_tokens=100, output_tokens=10, cache_read_tokens=40,
        cache_write_tokens=30,
    )  # fmt: skip
    mode.provider.reply(text="There is one file.", input_tokens=120, output_tokens=8)


def shown(seen: Captured) -> Counter[str]:
    """Number of spans of each kind."""
    return Counter(span.name.partition(" ")[0] for span in seen.spans)


def input_texts(record: CallRecord) -> list[str | None]:
    known = record.conversation
    assert known is not None
    return [part.text for part in known.input]


def test_a_stream_makes_one_record_for_each_model_request(mode: Mode, run: Run, seen: Captured) -> None:
    """With model, content, tokens and the session; the events of the stream are the caller's."""
    script(mode)

    async def body() -> tuple[str, list[Any]]:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        return session_id, await read(mode, client, session_id)

    session_id, events = run(body)
    ends = [event for event in events if event.type == "span.model_request_end"]
    first, second = seen.records
    assert [record.call_id for record in calls(seen)] == [response_call_id("anthropic", event.id) for event in ends]
    assert [type(event).__name__ for event in events][:2] == [
        "BetaManagedAgentsUserMessageEvent", "BetaManagedAgentsSessionStatusRunningEvent"
    ]  # fmt: skip
    assert {(record.api, record.request.model, record.place.session_id, record.outcome) for record in seen.records} == {
        ("sessions", "claude-sonnet-4-5", session_id, "success")
    }
    usage = first.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 10, 110)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (40, 30)
    assert (first.text, second.text) == ("Let me look.", "There is one file.")
    assert [(call.name, call.arguments) for call in first.tool_calls] == [("bash", '{"command":"ls"}')]
    assert input_texts(first) == ["What is here?"]
    assert first.timing.duration_ns is not None
    assert first.timing.start_ns + first.timing.duration_ns <= second.timing.start_ns


def test_the_tools_of_the_provider_are_events_of_the_session(mode: Mode, run: Run, seen: Captured) -> None:
    """Once, with arguments and result; those that the application runs are its own."""
    script(mode)
    mode.provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Rome"}}])
    mode.provider.reply(text="Sunny.")

    async def body() -> None:
        client = mode.anthropic()
        session_id = await asked(mode, client)
        await send(mode, client, session_id, "And the weather?")
        used = next(event for event in await read(mode, client, session_id) if event.type == "agent.custom_tool_use")
        result = {"type": "user.custom_tool_result", "custom_tool_use_id": used.id}
        result["content"] = [{"type": "text", "text": "25 degrees"}]  # type: ignore[assignment]
        await mode.wait(client.beta.sessions.events.send(session_id, events=[result]))
        await read(mode, client, session_id)
        await listed(mode, client, session_id)

    run(body)
    (tool,) = tools(seen)
    assert (tool.event_type, tool.name, tool.data) == (
        "tool", "bash", {"arguments": {"command": "ls"}, "result": [{"type": "text", "text": "a.txt"}]}
    )  # fmt: skip
    *_, asking, answering = seen.records
    assert [(call.name, call.tool_type) for call in asking.tool_calls] == [("weather", "function")]
    known = answering.conversation
    assert known is not None
    assert "25 degrees" in str(known.input)
    assert answering.text == "Sunny."


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [100, 3])
def test_listing_after_streaming_adds_nothing(mode: Mode, run: Run, seen: Captured, order: str, limit: int) -> None:
    """In any order, by any pages, by streaming again: no record, no span."""
    script(mode)

    async def body() -> int:
        client = mode.anthropic()
        session_id = await asked(mode, client)
        before = len(seen.everything)
        for _ in range(2):
            assert len(await listed(mode, client, session_id, order=order, limit=limit)) == 11
        return before

    before = run(body)
    assert len(seen.everything) == before
    assert shown(seen) == {"chat": 2, "execute_tool": 1}


@pytest.mark.parametrize("limit", [100, 3])
def test_listing_alone_records_the_same(mode: Mode, run: Run, seen: Captured, limit: int) -> None:
    """Also where a request and its answer are on several pages."""
    script(mode)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        await listed(mode, client, session_id, limit=limit)

    run(body)
    first, second = seen.records
    assert [record.part for record in calls(seen)] == ["answered"] * 2
    assert (first.text, second.text, input_texts(first)) == ("Let me look.", "There is one file.", ["What is here?"])
    assert len(tools(seen)) == 1


def test_a_stream_that_breaks_off_is_completed_by_a_list(mode: Mode, run: Run, seen: Captured) -> None:
    """What was written before is not written again."""
    script(mode)
    mode.provider.reply(on="/events/stream", cut_after=7)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection"):
            await read(mode, client, session_id)
        assert len(seen.records) == 1
        await listed(mode, client, session_id)

    run(body)
    assert [record.text for record in seen.records] == ["Let me look.", "There is one file."]
    assert len(calls(seen)) == 2
    assert shown(seen) == {"chat": 2, "execute_tool": 1}


def test_events_without_their_beginning_are_amended(mode: Mode, run: Run, seen: Captured) -> None:
    """A list of the ends only has tokens; what is read later adds the content, and no call, span or token."""
    script(mode)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        await listed(mode, client, session_id, types=["span.model_request_end"])
        assert [(record.usage is not None, record.text or None) for record in seen.records] == [(True, None)] * 2
        await listed(mode, client, session_id)
        await listed(mode, client, session_id)

    run(body)
    assert [record.part for record in calls(seen)] == ["ended"] * 2 + ["answered"] * 2
    first, second = seen.records
    assert (first.text, second.text) == ("Let me look.", "There is one file.")
    assert first.usage is not None
    assert first.usage.total_tokens == 110
    assert shown(seen) == {"chat": 2, "execute_tool": 1}


def test_a_stream_joined_after_the_message_gets_it_from_a_list(mode: Mode, run: Run, seen: Captured) -> None:
    """The message was sent, and its event read, by another process."""
    script(mode)

    async def body() -> None:
        other, client = mode.anthropic(), mode.anthropic()
        with suppress_instrumentation():
            session_id = await session(mode, other)
            await send(mode, other, session_id, "What is here?")
            events = [event.to_dict() for event in await listed(mode, other, session_id)]
        mode.provider.reply(on="/events/stream", raw=events[events.index(of_user(events)) + 1 :])
        await read(mode, client, session_id)
        assert next(input_texts(record) for record in seen.records) == []
        for _ in range(2):
            await listed(mode, client, session_id)

    run(body)
    assert [record.part for record in calls(seen)] == ["ended", "answered", "answered"]
    first, second = seen.records
    assert (first.text, input_texts(first)) == ("Let me look.", ["What is here?"])
    assert second.text == "There is one file."
    assert shown(seen) == {"chat": 2, "execute_tool": 1}


def of_user(events: list[Any]) -> Any:
    return next(event for event in events if event["type"] == "user.message")


def test_spans_are_model_requests_in_their_session(mode: Mode, run: Run, seen: Captured) -> None:
    """CLIENT spans at the provider's times, with the record's id, below the code that reads."""
    script(mode)

    async def body() -> str:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        with callspan.session("reader", session_id="mine"):
            await read(mode, client, session_id)
        return session_id

    session_id = run(body)
    made = [span for span in seen.spans if span.kind is SpanKind.CLIENT]
    assert [span.name for span in made] == ["chat claude-sonnet-4-5"] * 2
    outer = next(span for span in seen.spans if span not in made and not span.name.startswith("execute_tool"))
    for span, record in zip(made, seen.records, strict=True):
        shown = dict(span.attributes or {})
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        assert record.span_id == f"{span.get_span_context().span_id:016x}"
        assert shown["callspan.call_id"] == record.call_id
        assert shown["session.id"] == shown["gen_ai.conversation.id"] == session_id
        assert span.start_time == record.timing.start_ns
        assert shown["gen_ai.agent.name"] == "Finder"
    assert dict(made[0].attributes or {})["gen_ai.usage.input_tokens"] == 100
    (ran,), (row,) = [span for span in seen.spans if span.name == "execute_tool bash"], tools(seen)
    assert ran.parent is not None
    assert ran.parent.span_id == outer.get_span_context().span_id
    assert row.span_id == f"{ran.get_span_context().span_id:016x}"
    assert (ran.start_time, ran.end_time) == (row.time_ns, row.time_ns + (row.duration_ns or 0))
    assert (dict(ran.attributes or {})["gen_ai.tool.type"], row.session_id) == ("extension", session_id)
    hosted = {record.session_id: record for record in seen.everything if isinstance(record, SessionRecord)}
    assert hosted[session_id].name == "Finder"


def test_a_tool_that_another_process_has_shown_has_no_second_span(mode: Mode, run: Run, tmp_path: Path) -> None:
    """A later process, or a later `instrument()`, that lists the events: one row, with the span of the first."""
    store = f"sqlite:///{tmp_path}/calls.db"
    script(mode)

    async def body() -> tuple[str, Counter[str], Counter[str]]:
        client = mode.anthropic()
        with capture(stores=store) as first:
            session_id = await asked(mode, client)
            assert WIRING.flush(30)
            before = shown(first)
        with capture(stores=store) as later:
            await listed(mode, client, session_id)
            assert WIRING.flush(30)
            return session_id, before, shown(later)

    session_id, before, after = run(body)
    assert (before, after) == ({"chat": 2, "execute_tool": 1}, {})
    reader = open_store(store)
    (row,) = [event for event in reader.events(session_id) if event.event_type == "tool"]
    reader.close()
    assert row.span_id is not None


def test_a_failed_model_request_is_an_error(mode: Mode, run: Run, seen: Captured) -> None:
    """With the error that the session states, and the tokens that it has cost."""
    mode.provider.reply(finish_reason="error", error_type="model_overloaded_error", message="Busy.", input_tokens=9)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "Hi")
        await read(mode, client, session_id)

    run(body)
    (record,) = seen.records
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.type) == ("error", "overloaded", "model_overloaded_error")
    assert record.error.message == "Busy."
    assert record.usage is not None
    assert record.usage.input_tokens == 9
    assert not seen.spans[0].status.is_ok


@pytest.mark.parametrize("raw", ["with_raw_response", "with_streaming_response"])
def test_raw_lists_are_read_too(mode: Mode, run: Run, seen: Captured, raw: str) -> None:
    """Whether the caller parses them or not."""
    script(mode)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        made = getattr(client.beta.sessions.events, raw).list(session_id)
        if raw == "with_raw_response":
            await mode.wait(made)
            return
        async with mode.entered(made) as response:
            await mode.wait(response.read())

    run(body)
    assert [record.text for record in seen.records] == ["Let me look.", "There is one file."]


def test_threads_have_models_of_their_own(mode: Mode, run: Run, seen: Captured) -> None:
    """That of the session is not theirs; it is known once the thread was read."""
    usage = {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    events = [
        {"type": "span.model_request_start", "id": "s1", "processed_at": "2026-11-20T10:00:00Z"},
        {"type": "agent.message", "id": "m1", "content": [{"type": "text", "text": "Done."}]},
        {"type": "span.model_request_end", "id": "e1", "model_request_start_id": "s1", "model_usage": usage,
         "processed_at": "2026-11-20T10:00:02Z"},
    ]  # fmt: skip
    later = [{**event, "id": f"{event['id']}-2", "model_request_start_id": "s1-2"} for event in events]
    thread = {"id": "sthr_1", "type": "session_thread", "agent": {**AGENT, "model": {"id": "claude-haiku-4-5"}}}
    mode.provider.reply(on="/threads/sthr_1/stream", raw=events)
    mode.provider.reply(on="/threads/sthr_1/events", raw={"data": later, "next_page": None})

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        mode.provider.reply(on="/threads/sthr_1", raw={**thread, "session_id": session_id})
        of_threads = client.beta.sessions.threads
        await mode.all(await mode.wait(of_threads.events.stream("sthr_1", session_id=session_id)))
        await mode.wait(of_threads.retrieve("sthr_1", session_id=session_id))
        pages = of_threads.events.list("sthr_1", session_id=session_id)
        await mode.all(pages) if mode.is_async else list(pages)

    run(body)
    first, second = seen.records
    assert (first.request.model, second.request.model) == (None, "claude-haiku-4-5")
    assert (first.text, first.timing.duration_ns) == ("Done.", 2_000_000_000)
    assert first.place.session_id == second.place.session_id


def test_the_usage_of_a_session_is_no_call(mode: Mode, run: Run, seen: Captured) -> None:
    """It is kept beside the session, to compare with."""
    script(mode)

    async def body() -> str:
        client = mode.anthropic()
        session_id = await asked(mode, client)
        await mode.wait(client.beta.sessions.retrieve(session_id))
        return session_id

    session_id = run(body)
    stated = [record.metadata.get("reported_usage") for record in seen.everything if isinstance(record, SessionRecord)]
    assert stated[-1] == {"input_tokens": 150, "output_tokens": 18, "cache_read_input_tokens": 40}
    assert {record.place.session_id for record in seen.records} == {session_id}
    assert len(seen.records) == 2


def test_without_content_there_are_counts_only(mode: Mode, run: Run) -> None:
    """The content setting holds for what events tell."""
    script(mode)

    with capture(content="metadata") as seen:
        run(lambda: asked(mode, mode.anthropic()))
    assert [record.usage is not None for record in seen.records] == [True, True]
    assert "What is here" not in str(seen.everything)
    assert "one file" not in str([dict(span.attributes or {}) for span in seen.spans])
    assert "a.txt" not in str(seen.everything)


def test_errors_of_requests_are_the_callers(mode: Mode, run: Run, seen: Captured) -> None:
    """Nothing is recorded of a request that failed, and of what it would have sent."""
    mode.provider.reply(on="/events", status=400)

    async def body() -> None:
        client = mode.anthropic()
        session_id = await session(mode, client)
        with pytest.raises(Exception, match="400"):
            await send(mode, client, session_id, "Never")
        mode.provider.reply(text="Hello.")
        await send(mode, client, session_id, "Hi")
        await read(mode, client, session_id)

    run(body)
    (record,) = seen.records
    assert input_texts(record) == ["Hi"]


def test_spans_can_be_left_to_the_provider(mode: Mode, run: Run) -> None:
    """With `hosted_spans` off there are records only."""
    script(mode)

    with capture(hosted_spans=False) as seen:
        run(lambda: asked(mode, mode.anthropic()))
    assert (len(seen.records), len(seen.spans)) == (2, 0)


@pytest.mark.skipif(sdks.ANTHROPIC < (2, 10), reason="needs the SDK's own tracing")
def test_the_sdks_own_spans_have_no_tokens(mode: Mode, run: Run, seen: Captured) -> None:
    """They are of its requests, and stay; tokens are on callspan's spans alone."""
    script(mode)

    async def body() -> None:
        client = mode.anthropic(open_telemetry={"traces": {"enabled": True}})
        session_id = await asked(mode, client)
        await listed(mode, client, session_id)

    run(body)
    with_tokens = [span.name for span in seen.spans if "gen_ai.usage.input_tokens" in (span.attributes or {})]
    assert with_tokens == ["chat claude-sonnet-4-5"] * 2


@pytest.mark.parametrize("raw", ["with_raw_response", "with_streaming_response"])
def test_raw_streams_are_read_too(mode: Mode, run: Run, seen: Captured, raw: str) -> None:
    """Parsed by the caller, or read as lines."""
    script(mode)
    mode.provider.reply(on="/events/stream", end_after=11)

    async def body() -> int:
        client = mode.anthropic()
        session_id = await session(mode, client)
        await send(mode, client, session_id, "What is here?")
        made = getattr(client.beta.sessions.events, raw).stream(session_id)
        if raw == "with_raw_response":
            response = await mode.wait(made)
            return len(await mode.all(await mode.wait(response.parse())))
        async with mode.entered(made) as response:
            return len([line for line in await mode.all(response.iter_lines()) if line.startswith("event:")])

    assert run(body) == 11
    assert [record.text for record in seen.records] == ["Let me look.", "There is one file."]
    assert shown(seen) == {"chat": 2, "execute_tool": 1}
