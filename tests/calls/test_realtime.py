"""Realtime sessions: each response and each transcription is one call; those of the scripted provider."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.support import sdks
from tests.support import socket_server as sockets
from tests.support.calls import body_sent, conversation_of, everywhere, usage_of
from tests.support.mode import Mode
from tests.support.realtime_server import (
    SECOND,
    USAGE,
    added,
    answer,
    created,
    done,
    event,
    response,
    session,
    speech,
    spoken,
    transcribed,
)
from tests.support.socket_server import ConnectionClosed, Socket, by_api
from tests.support.waiting import HANG_S

import callspan
from callspan.records import Media, Text
from callspan.testing import Capture, ReceivedRequest, Reply, capture

sdks.needs("openai", "2.30", "realtime over a base URL of one's own")
sdks.needs("websockets", "14", "what was received before a drop")
CREATE: dict[str, Any] = {"type": "response.create"}
DONE = "response.done"
SING = {"instructions": "Sing."}


def connected(mode: Mode, script: list[Any] | None = None) -> AbstractAsyncContextManager[Socket]:
    """A session with the scripted provider, or with a server that plays a script."""
    return sockets.connected(mode, "realtime.connect", script, model="gpt-realtime")


async def listened(mode: Mode, script: list[Any], *lasts: str, **options: Any) -> None:
    """Listen to a server up to each of these events, by default to the end of an answer."""
    options = {"model": "gpt-realtime", **options}
    await sockets.listened(mode, "realtime.connect", script, *(lasts or [DONE]), **options)


async def asked(socket: Socket, **frame: Any) -> list[Any]:
    """The events of an answer."""
    await socket.send({**CREATE, **frame})
    return await socket.until(DONE)


async def test_create_is_a_call_with_session_and_own_settings(mode: Mode, seen: Capture) -> None:
    settings = {"type": "realtime", "instructions": "Be brief.", "tools": [{"type": "function", "name": "look"}]}
    mode.provider.reply(text="I am well.", audio=1.0)
    async with connected(mode) as socket:
        given = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "How are you?"}]}
        await socket.send({"type": "session.update", "session": settings})
        await socket.send({"type": "conversation.item.create", "item": given})
        with callspan.session("voice"), callspan.metadata(user_id="ann"):
            await asked(socket, response={"instructions": "Be kind."})
    (record,) = seen.records
    assert (record.api, record.operation, record.provider, record.outcome) == ("realtime", "chat", "openai", "success")
    assert (record.place.session_name, record.metadata) == ("voice", {"user_id": "ann"})
    sent = body_sent(record)
    assert record.request.model == "gpt-realtime"
    assert (sent["instructions"], sent["tools"][0]["name"]) == ("Be kind.", "look")
    assert [one["content"][0]["text"] for one in sent["input"]] == ["How are you?"]
    assert {"id", "client_secret", "type"}.isdisjoint(sent)
    ((spoken_text, audio),) = [message.parts for message in conversation_of(record).output]
    assert spoken_text == Text(text="I am well.")
    assert audio == Media(modality="audio", mime="audio/pcm", size=48_000, seconds=1.0)
    assert (record.text, record.finish_reason) == ("I am well.", "completed")
    assert (record.stream and record.stream.end, record.stream and record.stream.complete) == ("complete", True)
    (span,) = [span for span in seen.spans if span.name == "chat gpt-realtime"]
    assert (span.attributes or {})["callspan.call_id"] == record.call_id


async def test_user_speech_begins_a_response_and_a_transcription(mode: Mode, seen: Capture) -> None:
    tokens = {
        "type": "tokens", "input_tokens": 20, "output_tokens": 5, "total_tokens": 25,
        "input_token_details": {"audio_tokens": 18, "text_tokens": 2},
    }  # fmt: skip
    script = [
        session(), *speech("item_1"), "recv", created("resp_1"),
        *transcribed("item_1", "Hello", " there.", usage=tokens), *spoken("resp_1", "Hi."), *done("resp_1", "Hi."),
        *speech("item_2", 2000, 2500), *transcribed("item_2", "Bye."), *answer("resp_2", "Bye."),
    ]  # fmt: skip
    with callspan.session("call"):
        async with connected(mode, script) as socket:
            await socket.until("conversation.item.added")
            await asyncio.sleep(0.05)
            await socket.send({"type": "output_audio_buffer.clear"})
            await socket.until(DONE)
            await socket.until(DONE)
    first, second = by_api(seen)
    (message,) = conversation_of(first).input
    assert message.parts == [Text(text="Hello there."), Media(modality="audio", mime="audio/pcm", seconds=1.5)]
    assert [message.text for message in second.conversation.input] == ["Bye."]  # type: ignore[union-attr]
    assert (first.request.continues, second.request.continues) == (None, "resp_1")
    assert {record.place.session_name for record in seen.records} == {"call"}
    by_tokens, by_seconds = by_api(seen, "transcriptions")
    assert (by_tokens.request.model, by_tokens.operation) == ("gpt-4o-transcribe", "generate_content")
    assert by_tokens.text == "Hello there."
    assert (usage_of(by_tokens).input_audio_tokens, usage_of(by_tokens).output_tokens) == (18, 5)
    assert (by_seconds.usage.input_audio_seconds, by_seconds.usage.input_tokens) == (1.5, None)
    assert len(seen.records) == 4
    # From the end of speech.
    assert 50_000_000 <= (first.timing.first_token_ns or 0) <= (first.timing.duration_ns or 0)
    assert 50_000_000 <= (by_tokens.timing.first_token_ns or 0) <= (by_tokens.timing.duration_ns or 0)


@pytest.mark.parametrize("begun", [
    session(type="transcription", model=None),
    event("transcription_session.updated", session={"input_audio_transcription": {"model": "gpt-4o-transcribe"}}),
])  # fmt: skip
async def test_transcription_session_has_only_transcriptions(begun: Any, mode: Mode, seen: Capture) -> None:
    failed = event(
        "conversation.item.input_audio_transcription.failed", item_id="item_2", content_index=0,
        error={"type": "server_error", "code": "audio_unintelligible", "message": "What?"},
    )  # fmt: skip
    script = [begun, *speech("item_1"), *transcribed("item_1", "One."), failed]
    await listened(mode, script, failed["type"], extra_query={"intent": "transcription"})
    whole, broken = seen.records
    assert (whole.api, whole.text, whole.request.model) == ("transcriptions", "One.", "gpt-4o-transcribe")
    assert (broken.outcome, broken.error and broken.error.code) == ("error", "audio_unintelligible")


ENDS: dict[str, tuple[dict[str, Any] | None, str, str, str]] = {
    # what is scripted (nothing: the application ends the session), outcome, end of the stream, reason or status
    "completed": ({}, "success", "complete", "completed"),
    "cancelled": ({"interrupted": True}, "cancelled", "complete", "turn_detected"),
    "incomplete": ({"finish_reason": "length"}, "success", "complete", "max_output_tokens"),
    "failed": ({"finish_reason": "failed"}, "error", "complete", "failed"),
    "drop": ({"cut_after": -1}, "error", "cut_off", "in_progress"),
    "close": ({"end_after": -1}, "success", "cut_off", "in_progress"),
    "early": (None, "cancelled", "closed", "in_progress"),
    "raises": (None, "cancelled", "closed", "in_progress"),
    "task": (None, "cancelled", "closed", "in_progress"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_end_is_recorded_once(name: str, mode: Mode, seen: Capture) -> None:
    scripted, outcome, end, reason = ENDS[name]
    spoken_only = {"raw": [created("resp_1"), *spoken("resp_1", "I am")]}
    mode.provider.reply(text="I am", audio=1.0, usage=USAGE, **(spoken_only if scripted is None else scripted))
    with contextlib.suppress(ConnectionClosed, ZeroDivisionError, asyncio.TimeoutError):
        async with connected(mode) as socket:
            await socket.send(CREATE)
            await socket.until("response.output_audio.delta" if scripted is None else DONE)
            if name == "raises":
                raise ZeroDivisionError
            if name == "task" and mode.is_async:
                await asyncio.wait_for(socket.connection.recv(), 0.01)
    (record,) = seen.records
    assert len(seen.spans) == 1
    finish = record.response.status if record.response and record.finish_reason is None else record.finish_reason
    assert (record.outcome, record.stream.end, finish, record.text) == (outcome, end, reason, "I am")
    assert record.stream.complete == (record.usage is not None) == (end == "complete")
    assert (record.error is not None) == (outcome == "error")


def unnamed(events: list[Any]) -> list[Any]:
    """The events of an answer without its id."""
    copies = [json.loads(json.dumps(one)) for one in events]
    for one in copies:
        one.pop("response_id", None)
        one.get("response", {}).pop("id", None)
    return copies


def renamed(identity: str, events: list[Any]) -> list[Any]:
    """The last events of answers, under another id."""
    return [{**one, "response": {**one["response"], "id": identity}} for one in events]


def bare(events: list[Any]) -> list[Any]:
    """Events without the ids of items."""
    copies = [json.loads(json.dumps(one)) for one in events if "item" not in one]
    for one in copies:
        one.pop("item_id", None)
        for item in one.get("response", {}).get("output", []):
            del item["id"]
    return copies


FAULT = event("error", error={"type": "server_error", "code": None, "message": "Oops."})
REFUSAL = event("error", error={"type": "invalid_request_error", "code": "bad", "message": "Bad."})
HEARD = ("success", "Hi.", "complete")
ELSEWHERE = renamed("resp_9", done("resp_1", "Hi."))
ODD: dict[str, tuple[list[Any], list[tuple[str, str | None, str]]]] = {
    # what a server sends after a create, and the calls: outcome, text, end of the stream
    "no first event": ([*spoken("resp_1", "Hi."), *done("resp_1", "Hi.")], [HEARD]),
    "the last event alone": (done("resp_1", "Hi."), [HEARD]),
    "the end twice": ([*answer("resp_1", "Hi."), *done("resp_1", "Hi.")], [HEARD]),
    "the start twice": ([created("resp_1"), *answer("resp_1", "Hi.")], [HEARD]),
    "the start after the end": ([*answer("resp_1", "Hi."), created("resp_1"), *done("resp_1", "Hi.")], [HEARD]),
    "pieces after the end": (
        [*answer("resp_1", "Hi."), *spoken("resp_1", "Ho."), *answer("resp_2", "Hi.")], [HEARD, HEARD]
    ),
    "an end without an id": ([created("resp_1"), *spoken("resp_1", "Hi."), *unnamed(done("resp_1", "Hi."))], [HEARD]),
    "no ids but the first": ([created("resp_1"), *unnamed(answer("resp_1", "Hi.")[1:])], [HEARD]),
    "no ids, while two run": (
        [
            created("resp_1"), created("resp_2"), *unnamed(spoken("resp_1", "?")), *unnamed(done("resp_1", "?")),
            *spoken("resp_2", "Hi."), *done("resp_2", "Hi."), *spoken("resp_1", "Hi."), *done("resp_1", "Hi."),
        ],
        [HEARD, HEARD],
    ),
    "an end under an id that nobody announced": (
        [created("resp_1"), *spoken("resp_1", "Hi."), *ELSEWHERE], [HEARD]
    ),
    "the same, before any item": ([created("resp_1"), *done("resp_9", "Hi.")], [HEARD]),
    "the same, and under its own": (
        [created("resp_1"), *spoken("resp_1", "Hi."), *ELSEWHERE, *done("resp_1", "Hi.")],
        [HEARD],
    ),
    "the end of an older one, under such an id": (
        [
            created("resp_1"), *spoken("resp_1", "Hi."), created("resp_2"), *spoken("resp_2", "Ho."),
            *ELSEWHERE, *done("resp_2", "Ho."),
        ],
        [HEARD, ("success", "Ho.", "complete")],
    ),
    "the end of one that was missed, while another runs": (
        [created("resp_1"), *spoken("resp_1", "Hi."), *done("resp_9", "Ho."), *done("resp_1", "Hi.")],
        [("success", "Ho.", "complete"), HEARD],
    ),
    "an answer again, under another id": ([*answer("resp_1", "Hi."), *ELSEWHERE], [HEARD]),
    "the same, without ids of items": (
        [*bare(answer("resp_1", "Hi.")), *bare(done("resp_9", "Hi."))], [HEARD]
    ),
    "another answer, without ids of items": (
        [*bare(answer("resp_1", "Hi.")), *bare(done("resp_9", "Ho."))], [HEARD, ("success", "Ho.", "complete")]
    ),
    "no ids": (unnamed([*answer("resp_1", "Hi."), *answer("resp_2", "Hi.")]), [HEARD, HEARD]),
    "no ids, and ends twice": (
        unnamed([*answer("resp_1", "Hi."), *done("resp_1", "Hi."), *answer("resp_2", "Hi.")]), [HEARD, HEARD]
    ),
    "no ids, the last event alone, twice": (unnamed([*done("resp_1", "Hi."), *done("resp_1", "Hi.")]), [HEARD]),
    "interleaved": (
        [
            created("resp_1"), created("resp_2"), *spoken("resp_1", "Hi."), *spoken("resp_2", "Ho."),
            *done("resp_2", "Ho."), *done("resp_1", "Hi."),
        ],
        [("success", "Ho.", "complete"), HEARD],
    ),
    "a fault in the middle": ([created("resp_1"), *spoken("resp_1", "Hi."), FAULT, *done("resp_1", "Hi.")], [HEARD]),
    "a refusal twice": ([REFUSAL, REFUSAL], [("error", None, "error")]),
    "a refusal, then an answer": ([REFUSAL, *answer("resp_1", "Hi.")], [("error", None, "error"), HEARD]),
    "the application leaves in the middle": (
        [created("resp_1"), *spoken("resp_1", "Hi.")], [("cancelled", "Hi.", "closed")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_odd_events_of_answers_are_one_call_each(name: str, mode: Mode, seen: Capture) -> None:
    events, calls = ODD[name]
    async with connected(mode, [session(), "recv", *events, event("rate_limits.updated", rate_limits=[])]) as socket:
        await socket.send(CREATE)
        await socket.until("rate_limits.updated")
    assert [(one.outcome, one.text, one.stream and one.stream.end) for one in seen.records] == calls
    assert {one.usage is not None for one in seen.records if one.stream and one.stream.end == "complete"} <= {True}
    assert len(seen.spans) == len(calls)


async def test_metadata_assigns_concurrent_responses_to_creates(mode: Mode, seen: Capture) -> None:
    one, two = {"metadata": {"topic": "one"}}, {"metadata": {"topic": "two"}}
    first, second = spoken("resp_1", "First."), spoken("resp_2", "Second.")
    script = [
        session(), "recv", "recv", created("resp_2", **two), created("resp_1", **one, conversation_id=None), *first,
        *second, *done("resp_2", "Second.", **two), *done("resp_1", "First.", **one),
    ]  # fmt: skip
    sends = [{**CREATE, "response": {"conversation": "none", **one}}, {**CREATE, "response": two}]
    await listened(mode, script, DONE, DONE, sends=sends)
    topics = [(record.text, body_sent(record)["metadata"]["topic"]) for record in seen.records]
    assert sorted(topics, key=str) == [("First.", "one"), ("Second.", "two")]


async def test_server_response_does_not_answer_a_create_with_metadata(mode: Mode, seen: Capture) -> None:
    named = {"metadata": {"topic": "mine"}}
    script = [
        session(), "recv", *speech("item_1"), created("resp_1", metadata=None), *spoken("resp_1", "Heard."),
        *done("resp_1", "Heard."), created("resp_2", **named), *spoken("resp_2", "Asked."), *done("resp_2", "Asked."),
    ]  # fmt: skip
    await listened(mode, script, DONE, DONE, sends=[{**CREATE, "response": named}])
    asked_for = {record.text: body_sent(record).get("metadata") for record in by_api(seen)}
    assert asked_for == {"Heard.": None, "Asked.": named["metadata"]}


async def test_only_the_refused_create_fails(mode: Mode, seen: Capture) -> None:
    busy = {"type": "invalid_request_error", "code": "conversation_already_has_active_response", "message": "Busy."}
    other = {"type": "invalid_request_error", "code": "item_truncate_invalid_item_id", "message": "No such item."}
    named = {"type": "invalid_request_error", "code": "bad", "message": "Bad.", "event_id": "mine"}
    script = [
        session(), created("resp_1"), "recv", event("error", error=busy), event("error", error=other), "recv",
        event("error", error=named), *spoken("resp_1", "Hi."), *done("resp_1", "Hi."), "recv",
        event("error", error=other), *answer("resp_2", "Yes."),
    ]  # fmt: skip
    async with connected(mode, script) as socket:
        await socket.until("response.created")
        await socket.send(CREATE)
        await socket.send({**CREATE, "event_id": "mine"})
        await socket.until(DONE)
        await asked(socket)
    found = {(record.outcome, record.error and record.error.code, record.text) for record in by_api(seen)}
    succeeded = {("success", None, "Hi."), ("success", None, "Yes.")}
    assert found == {*succeeded, ("error", busy["code"], None), ("error", "bad", None)}
    assert len(seen.records) == 4


async def test_out_of_band_response_keeps_pending_items(mode: Mode, seen: Capture) -> None:
    beside = {"conversation": "none", "metadata": {"topic": "beside"}}
    script = [
        session(), added("item_1", "user", [{"type": "input_text", "text": "Hello."}]), "recv",
        *answer("resp_1", "Kind.", metadata=beside["metadata"]), "recv", *answer("resp_2", "Hi."), "recv",
        *answer("resp_3", "Kind.", metadata=beside["metadata"]), "recv", *answer("resp_4", "!"), "recv",
        *answer("resp_5", "?"),
    ]  # fmt: skip
    async with connected(mode, script) as socket:
        await socket.until("conversation.item.added")
        for overrides in (beside, {}, beside, {"input": []}, {}):
            await asked(socket, response=overrides)
    assert [[one.text for one in record.conversation.input] for record in by_api(seen)[:2]] == [["Hello."], ["Hello."]]
    assert [record.request.continues for record in by_api(seen)] == [None, None, "resp_2", None, "resp_2"]


async def test_repeated_end_of_speech_does_not_start_a_response(mode: Mode, seen: Capture) -> None:
    *spoke, committed, item = speech("item_1")
    script = [session(), *spoke, item, *answer("resp_1", "Hi."), committed, "recv", *answer("resp_2", "Hello?")]
    async with connected(mode, script) as socket:
        await socket.until("input_audio_buffer.committed")
        await asyncio.sleep(0.5)
        asked_ns = time.time_ns()
        await socket.send({"type": "input_audio_buffer.clear"})
        await socket.until(DONE)
    second = seen.records[-1]
    assert second.text == "Hello?"
    assert second.timing.start_ns > asked_ns - 250_000_000


async def test_next_request_contains_server_tool_results(mode: Mode, seen: Capture) -> None:
    """The item of the call is announced before the tool has run, and is done after its response."""
    call = {"id": "mcp_1", "type": "mcp_call", "server_label": "sums", "name": "add", "arguments": '{"a": 1}'}
    begun, ended = {**call, "output": None}, {**call, "output": "3"}
    listing = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "sums", "tools": []}
    about = {"response_id": "resp_1", "output_index": 0}
    script = [
        session(), event("conversation.item.added", item=listing),
        event("conversation.item.done", item={**listing, "tools": [{"name": "add", "input_schema": {}}]}),
        event("response.created", response=response("resp_1")),
        event("response.output_item.added", **about, item=begun),
        event("conversation.item.added", item=begun),
        event("response.output_item.done", **about, item=begun),
        event("response.done", response=response("resp_1", status="completed", output=[begun], usage=USAGE)),
        event("response.mcp_call.completed", item_id="mcp_1", output_index=0),
        event("conversation.item.done", item=ended),
        *answer("resp_2", "It is 3."),
    ]  # fmt: skip
    await listened(mode, script, DONE, DONE)
    first, second = (body_sent(record)["input"] for record in by_api(seen))
    assert [tool["name"] for tool in first[0]["tools"]] == ["add"]
    assert [(one["id"], one["output"]) for one in second] == [("mcp_1", "3")]


async def test_next_request_contains_interrupted_answer(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="I am", audio=1.0, interrupted=True)
    mode.provider.reply(heard="Wait!", text="Yes?", audio=1.0)
    async with connected(mode) as socket:
        (item,) = (await asked(socket))[-1].response.output
        heard = {"item_id": item.id, "content_index": 0, "audio_end_ms": 400}
        await socket.send({"type": "conversation.item.truncate", **heard})
        await socket.send({"type": "input_audio_buffer.append", "audio": SECOND})
        await socket.until(DONE)
    given = body_sent(by_api(seen)[1])["input"]
    assert [one["type"] for one in given] == ["conversation.item.truncated", "message"]
    assert given[0]["audio_end_ms"] == 400


async def test_next_request_contains_tool_results(mode: Mode, seen: Capture) -> None:
    result = {"type": "function_call_output", "call_id": "call_1", "output": "A tree."}
    mode.provider.reply(tool_calls=[{"name": "look", "arguments": {"at": "it"}, "id": "call_1"}])
    mode.provider.reply(text="A tree.", audio=1.0)
    async with connected(mode) as socket:
        await asked(socket)
        await socket.send({"type": "conversation.item.create", "item": result})
        await asked(socket)
    first, second = by_api(seen)
    assert [(one.name, one.arguments, one.id) for one in first.tool_calls] == [("look", '{"at":"it"}', "call_1")]
    assert first.finish_reason == "tool_calls"
    assert [message.role for message in conversation_of(second).input] == ["tool"]


async def test_content_off_keeps_no_content(mode: Mode, seen: Capture) -> None:
    prompt = {"input": {"transcription": {"model": "whisper-1", "prompt": "canary one"}}}
    script = [
        session(instructions="canary two", audio=prompt), *speech("item_1"), created("resp_1"),
        *transcribed("item_1", "canary three"), *spoken("resp_1", "canary four"), *done("resp_1", "canary four"),
    ]  # fmt: skip
    async with connected(mode, script) as socket:
        with callspan.content("off"):
            await socket.until(DONE)
    assert len(seen.records) == 2
    assert all(record.usage is not None for record in seen.records)
    assert "canary" not in everywhere(seen)


async def test_audio_is_counted_in_any_message_layout(mode: Mode, seen: Capture) -> None:
    """With and without spaces, as bytes, with the id behind the sound, of another item, odd in size, or empty."""
    begun = spoken("resp_1", "Hi.")
    sound = begun[-1]
    named = {key: value for key, value in sound.items() if key != "response_id"}
    tight = {"separators": (",", ":")}
    sizes = [{**sound, "delta": base64.b64encode(bytes(size)).decode()} for size in (0, 1, 2, 3, 1)]
    pieces = [
        json.dumps(sound), json.dumps(sound, **tight), json.dumps(sound, **tight).encode(),
        json.dumps({**named, "response_id": "resp_1"}), json.dumps({**sound, "item_id": "another"}, **tight),
        *(json.dumps(one, **tight) for one in sizes),
    ]  # fmt: skip
    script = [session(), created("resp_1"), *begun, *pieces, "drop"]
    with contextlib.suppress(ConnectionClosed):
        await listened(mode, script)
    (record,) = seen.records
    assert record.stream.chunks == 1 + len([one for one in begun if one["type"].startswith("response.")]) + len(pieces)
    parts = [part for message in conversation_of(record).output for part in message.parts if isinstance(part, Media)]
    assert sum(part.size or 0 for part in parts) == 6 * 48_000 + 7


async def test_beta_events_are_read(mode: Mode, seen: Capture) -> None:
    settings = {
        "model": "gpt-4o-realtime-preview", "input_audio_transcription": {"model": "whisper-1"}, "audio": None,
        "turn_detection": {"type": "server_vad"}, "input_audio_format": "g711_ulaw",
    }  # fmt: skip
    about = {"response_id": "resp_1", "item_id": "i", "output_index": 0, "content_index": 0}
    content = [{"type": "audio", "transcript": "I am well."}]
    output = [{"id": "i", "type": "message", "role": "assistant", "content": content}]
    *spoke, item = speech("item_1")
    script = [
        session(**settings), *spoke, {**item, "type": "conversation.item.created"}, *transcribed("item_1", "Hello."),
        event("response.created", response=response("resp_1", output_audio_format="g711_ulaw", audio=None)),
        event("response.audio_transcript.delta", **about, delta="I am well."),
        event("response.audio.delta", **about, delta=SECOND),
        event("response.done", response=response("resp_1", status="completed", output=output, usage=USAGE, audio=None)),
    ]  # fmt: skip
    await listened(mode, script)
    (record,), (transcription,) = by_api(seen), by_api(seen, "transcriptions")
    assert transcription.request.model == "whisper-1"
    assert [message.text for message in conversation_of(record).input] == ["Hello."]
    assert conversation_of(record).input[0].parts[1] == Media(modality="audio", mime="audio/pcmu", seconds=1.5)
    assert record.text == "I am well."
    assert conversation_of(record).output[0].parts[1] == Media(
        modality="audio", mime="audio/pcmu", size=48_000, seconds=6.0
    )


async def send_until_lost(socket: Socket) -> None:
    """Once the server has dropped the connection, send until that is noticed, then a create, which is not sent."""
    assert socket.part.done.wait(HANG_S)
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.send({"type": "input_audio_buffer.clear"})
            await asyncio.sleep(0.005)
    with pytest.raises(ConnectionClosed):
        await socket.send(CREATE)


async def test_unsent_create_is_not_answered(mode: Mode, seen: Capture) -> None:
    async with connected(mode, [session(), *answer("resp_1", "Hi."), "drop"]) as socket:
        await send_until_lost(socket)
        await socket.until(DONE)
    unsent, answered = seen.records
    assert (unsent.outcome, unsent.stream) == ("error", None)
    assert (answered.outcome, answered.text) == ("success", "Hi.")


async def test_lost_connection_cuts_off_and_fails_the_next_create(mode: Mode, seen: Capture) -> None:
    with contextlib.suppress(ConnectionClosed):
        async with connected(mode, [session(), "recv", "drop"]) as socket:
            await socket.send(CREATE)
            await send_until_lost(socket)
    unsent, cut_off = seen.records  # as they end
    assert (cut_off.outcome, cut_off.stream.end) == ("error", "cut_off")
    assert (unsent.outcome, unsent.error.kind, unsent.stream) == ("error", "connection", None)
    assert {span.context.span_id for span in seen.spans} >= {int(one.span_id or "0", 16) for one in seen.records}


@pytest.mark.parametrize("media", ["reference", "inline"])
async def test_audio_is_hashed_only_with_inline_media(media: Any, mode: Mode) -> None:
    def sound(seconds: int) -> Media:
        digest = hashlib.sha256(bytes(48_000 * seconds)).hexdigest() if media == "inline" else None
        return Media(modality="audio", mime="audio/pcm", size=48_000 * seconds, seconds=float(seconds), sha256=digest)

    content = [{"type": "input_audio", "audio": SECOND, "transcript": "Hello."}]
    given = [{"type": "message", "role": "user", "content": content}]
    long = [created("resp_1"), *spoken("resp_1", "Hi.", seconds=20), *done("resp_1", "Hi.")]
    script = [session(), added("item_1", "user", content), *long, "recv", *answer("resp_2", "Hi.")]
    with capture(media=media) as seen:
        async with connected(mode, script) as socket:
            await socket.until(DONE)
            await asked(socket, response={"input": given})
    for record, seconds in zip(by_api(seen), (20, 1), strict=True):
        assert SECOND[:100].encode() not in bytes(record.request.body)
        assert [message.parts for message in conversation_of(record).input] == [[Text(text="Hello."), sound(1)]]
        assert [message.parts for message in conversation_of(record).output] == [[Text(text="Hi."), sound(seconds)]]


async def test_scripted_events_match_the_sdk_types(mode: Mode) -> None:
    from openai.types.realtime import RealtimeServerEvent
    from pydantic import TypeAdapter

    usage = {"type": "duration", "seconds": 1.0}
    mode.provider.reply(
        heard="Hi.", heard_usage=usage, text="Well.", audio=bytes(20_000), tool_calls=[{"name": "look"}]
    )
    mode.provider.reply(text="One", interrupted=True, usage=USAGE)
    mode.provider.reply(finish_reason="length", text="One")
    mode.provider.reply(status=429, error_code="rate_limit_exceeded")
    update = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    create = {**CREATE, "event_id": "mine"}
    frames: list[tuple[dict[str, Any], str | None]] = [
        # what is sent, the event that is waited for
        ({"type": "session.update", "session": update}, None),
        # Clients commit at the end of their input; an empty turn would have them wait for its transcript.
        ({"type": "input_audio_buffer.commit", "event_id": "commit"}, "error"),
        ({"type": "input_audio_buffer.append", "audio": SECOND}, DONE),
        *[(create, end) for end in (DONE, DONE, "error")],
        ({"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 1}, None),
        ({"type": "input_audio_buffer.clear"}, "input_audio_buffer.cleared"),
        ({"type": "response.cancel"}, "error"),
    ]
    events: list[Any] = []
    async with connected(mode) as socket:
        for frame, last in frames:
            await socket.send(frame)
            events += [] if last is None else await socket.until(last)
    events = [one.to_dict() for one in events]
    declared: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
    for one in events:
        declared.validate_python(one)
    sound = [one["delta"] for one in events if one["type"] == "response.output_audio.delta"]
    assert [len(delta) for delta in sound] == [16_000, 10_668]
    empty, refused, unexpected = [one["error"] for one in events if one["type"] == "error"]
    assert (empty["code"], empty["event_id"]) == ("input_audio_buffer_commit_empty", "commit")
    assert (refused["code"], refused["event_id"]) == ("rate_limit_exceeded", "mine")
    assert "response.cancel" in unexpected["message"]


async def test_reply_is_chosen_by_the_request(mode: Mode) -> None:
    def by_instructions(request: ReceivedRequest) -> bool:
        return request.body.get("response") == SING

    mode.provider.reply(text="La.", on=by_instructions)
    mode.provider.reply(responder=lambda request: Reply(text=str(request.body["event_id"])), on="/realtime")
    async with connected(mode) as socket:
        ends = [(await asked(socket, **one))[-1] for one in ({"event_id": "e1"}, {"response": SING})]
    assert [end.response.output[0].content[0].text for end in ends] == ["e1", "La."]
    assert [request.method for request in mode.provider.requests] == ["GET", "WEBSOCKET", "WEBSOCKET"]
    assert mode.provider.requests[-1].body == {"type": "response.create", "response": SING}


BOTH = [session(), "recv", *answer("resp_1", "Hi."), *speech("item_1"), *transcribed("item_1", "Bye.")]
SEEN = [one for one in BOTH if one != "recv"]
COMPLETED = "conversation.item.input_audio_transcription.completed"


@pytest.mark.parametrize("first", ["asking", "watching"])
async def test_call_seen_by_two_connections_is_recorded_once(first: str, mode: Mode, seen: Capture) -> None:
    """With the context of the one that asked, whichever sees it first."""
    async with connected(mode, BOTH) as asking, connected(mode, SEEN) as watching:
        with callspan.session("asks"):
            await asking.send({**CREATE, "response": SING})
        for socket in (asking, watching) if first == "asking" else (watching, asking):
            await socket.until("response.created")
        for socket in (watching, asking):
            await socket.until(COMPLETED)
    (record,), (_,) = by_api(seen), by_api(seen, "transcriptions")
    assert (record.text, body_sent(record)["instructions"], record.place.session_name) == ("Hi.", "Sing.", "asks")
    assert len([span for span in seen.spans if "callspan.call_id" in (span.attributes or {})]) == 2


async def test_ended_answer_stays_with_its_watcher(mode: Mode, seen: Capture) -> None:
    async with connected(mode, BOTH) as asking:
        await asking.send(CREATE)
        async with connected(mode, SEEN) as watching:
            await watching.until(COMPLETED)
        await asking.until(COMPLETED)
    assert [record.text for record in by_api(seen)] == ["Hi."]
    assert len(seen.records) == 2


async def test_repeated_session_id_is_another_call(mode: Mode, seen: Capture) -> None:
    for _ in range(2):
        async with connected(mode, BOTH) as socket:
            await socket.send(CREATE)
            await socket.until(COMPLETED)
    assert len({record.call_id for record in seen.records}) == len(seen.records) == 4
