"""Calls end to end: one span with the right parent, and the facts of the call on span and record."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.support import sdks
from tests.support.calls import MESSAGE, QUESTION, Wire, the_call
from tests.support.mode import Mode

import callspan
from callspan.testing import Captured, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")


async def test_a_call_is_one_span_under_the_callers_own(wire: Wire, seen: Captured) -> None:
    wire.mode.provider.reply(text="I am well.")
    tracer = TracerProvider().get_tracer("application")
    with tracer.start_as_current_span("mine") as mine:
        result = await wire.ask()
        assert trace.get_current_span() is mine, "the caller's span is current again"
    the_call(seen)
    (span,) = seen.spans
    assert span.parent == mine.get_span_context()
    assert type(result).__module__.split(".")[0] == wire.sdk
    assert "I am well." in result.model_dump_json()


async def test_the_provider_gets_our_traceparent_only_where_it_is_switched_on(wire: Wire) -> None:
    """With the switch every request carries the call's span as its parent; without it none of openai's does.

    Anthropic's SDK sends one by default, unless its own setting disables it: that setting is respected.
    """
    with capture(propagate=True) as seen:
        await wire.ask()
        record = the_call(seen)
    with capture(propagate=False):
        await wire.ask()
    sent, unsent = [request.headers.get("traceparent") for request in wire.mode.provider.requests]
    assert sent is not None
    assert sent.rpartition("-")[0] == f"00-{record.trace_id}-{record.span_id}"
    assert unsent is None or wire.api == "messages"


@pytest.mark.parametrize(
    ("option", "sends"),
    [({}, True), ({"propagation": False}, False), (False, False), ({"traces": False, "propagation": True}, False)],
)
async def test_a_client_of_anthropic_sends_a_trace_only_as_it_would_by_itself(
    mode: Mode, seen: Captured, option: Any, sends: bool
) -> None:
    sdks.needs("anthropic", "1.17", "spans of its own")
    with trace.use_span(TracerProvider().get_tracer("application").start_span("mine")):
        await mode.wait(mode.anthropic(open_telemetry=option).messages.create(**MESSAGE))
    the_call(seen)
    (request,) = mode.provider.requests
    assert ("traceparent" in request.headers) is sends


async def test_a_clock_set_back_during_a_call_makes_no_duration_negative(
    wire: Wire, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock goes back an hour while a stream is read: every duration is still one."""
    wire.mode.provider.reply(text="one two three")
    real = time.time_ns
    with callspan.session("s") as session, session.timestep():
        stream = await wire.stream()
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
        await wire.mode.all(stream)
    (record,) = seen.records
    timing = record.timing
    offsets = [0, timing.answer_ns, timing.headers_ns, timing.first_chunk_ns, timing.last_chunk_ns, timing.duration_ns]
    known = [offset for offset in offsets if offset is not None]
    assert len(known) == 6
    assert known == sorted(known)
    for span in seen.spans:
        assert (span.end_time or 0) >= (span.start_time or 0) > 0, span.name
    for scope in [*seen.sessions, *seen.timesteps]:
        assert scope.end_ns is None or scope.end_ns >= (scope.start_ns or 0)


async def test_what_follows_a_call_is_no_earlier_than_its_end(
    wire: Wire, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the thread is suspended as it reads the clocks: the order of records is that of these times."""
    real = time.time_ns
    with callspan.session("s") as session:
        with monkeypatch.context() as slowly:
            slowly.setattr(time, "time_ns", lambda: (time.sleep(0.02), real())[1])
            await wire.ask()
        session.action("north")
    (record,), (action,) = seen.records, seen.events
    assert action.time_ns >= record.timing.start_ns + (record.timing.duration_ns or 0)


def test_a_flush_ends_where_a_test_freezes_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As freezegun does, a store refuses, and the flush ends after its time as ever."""
    handle = callspan.instrument(stores=f"unix://{tmp_path}/nobody.sock")
    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        provider.reply(text="x")
        monkeypatch.setattr(time, "monotonic", lambda: 1e9)
        client.chat.completions.create(model="m", messages=QUESTION)
        began = time.perf_counter()
        assert not handle.force_flush(500)
        assert time.perf_counter() - began < 30
    handle.uninstrument()


def prompts(seen: Captured) -> list[dict[str, Any]]:
    """The attributes of the prompt of each span, without their prefix."""
    prefix = "gen_ai.prompt."
    found = [dict(span.attributes or {}).items() for span in seen.spans]
    return [{name.removeprefix(prefix): value for name, value in each if name.startswith(prefix)} for each in found]


async def test_a_prompt_has_the_name_and_version_that_the_application_gives_it(wire: Wire, seen: Captured) -> None:
    """From the metadata, under the conventions' names, as texts; without a name there is no version."""
    with callspan.metadata(prompt_version=2):
        await wire.ask()
        with callspan.metadata(prompt_id="greet"):
            await wire.read()
    assert prompts(seen) == [{}, {"name": "greet", "version": "2"}]


@pytest.mark.parametrize("content", ["full", "metadata"])
@pytest.mark.parametrize(
    ("template", "expected"),
    [("pmpt_0123abcd", {"name": "pmpt_0123abcd", "version": "7"}), (None, {"name": "greet", "version": "2"})],
)
def test_a_template_of_the_provider_is_the_prompt_of_its_call(
    template: str | None, expected: dict[str, str], content: Any, provider: ScriptedProvider
) -> None:
    """Responses' own `prompt` goes before the metadata, of which nothing is mixed in; its variables are content."""
    prompt = {"id": template, "version": "7", "variables": {"city": "Rome"}}
    with capture(content=content) as seen, Mode("sync", provider) as mode:
        with callspan.metadata(prompt_id="greet", prompt_version=2):
            Wire("responses", mode).create(prompt=prompt)
        params = the_call(seen).request.params
    assert prompts(seen) == [expected]
    assert params.get("prompt", {}).get("id") == template
    assert "Rome" not in json.dumps(params)


# What a response says of the whole conversation.

COMPACTION: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}


async def test_a_conversation_that_was_compacted_for_a_response_is_marked(mode: Mode, seen: Captured) -> None:
    """The call that compacts, and those that send what it returned."""
    sdks.needs_name(mode.openai(), "responses.compact")
    compact = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [COMPACTION],
               "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}}  # fmt: skip
    mode.provider.reply(raw=compact, on="/responses/compact")
    responses = mode.openai().responses
    await mode.wait(responses.compact(model="gpt-5", input="How are you?"))
    await mode.wait(responses.create(model="gpt-5", input=[COMPACTION, *QUESTION]))
    await mode.wait(responses.create(model="gpt-5", input=QUESTION))
    marks = [(span.attributes or {}).get("gen_ai.conversation.compacted") for span in seen.spans]
    assert marks == [True, True, None]


@pytest.mark.skipif(sdks.OPENAI < (1, 107), reason="openai has conversations since 1.107")
@pytest.mark.parametrize("link", ["previous_response_id", "conversation"])
async def test_responses_that_continue_what_the_provider_keeps(
    link: str, stream: bool, mode: Mode, seen: Captured
) -> None:
    """The links with which `tests/stores/test_history.py` makes them whole again."""
    client, ids = mode.openai(), list[str]()
    for number in range(3):
        links: dict[str, Any] = {link: ids[-1]} if ids else {}
        if link == "conversation":
            links = {link: "conv_1" if number else {"id": "conv_1"}}
        answer = await mode.whole(client.responses.create(model="gpt-5", input="Hi", stream=stream, **links))
        ids.append(answer[0].response.id if stream else answer.id)
    continues = [None, *ids[:2]] if link == "previous_response_id" else [None] * 3
    assert [call.response and call.response.id for call in seen.records] == ids
    assert [call.request.continues for call in seen.records] == continues
    assert [call.request.conversation_id for call in seen.records] == [None if continues[1] else "conv_1"] * 3
