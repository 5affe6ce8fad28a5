"""Streaming: what callspan holds and writes while a stream runs; notes of chunks; helpers of the SDKs."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from tests.conftest import Instrument
from tests.support import sdks
from tests.support.calls import CHAT, MESSAGE, QUESTION, REQUESTS, caught, parsing, text_of, the_call, usage_of
from tests.support.mode import Mode
from tests.support.waiting import HANG_MS, HANG_S

import callspan
from callspan import add_callback
from callspan.records import CallRecord, encode
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")


async def test_stream_attaches_no_context(provider: ScriptedProvider, seen: Capture, nothing_warned: None) -> None:
    """Between chunks the caller's own span is current; a stream closed in another task's context raises nothing."""
    provider.reply(text="one two three four")
    tracer = TracerProvider().get_tracer("application")
    async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
        with tracer.start_as_current_span("mine") as mine:
            stream = await client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
            async for _ in stream:
                assert trace.get_current_span() is mine
                break
        assert trace.get_current_span() is trace.INVALID_SPAN
        await asyncio.create_task(stream.close())
    assert the_call(seen).outcome == "cancelled"


@pytest.mark.parametrize(("characters", "kept"), [(10, True), (65_536, False)])
def test_started_stream_is_stored(characters: int, kept: bool, client: openai.OpenAI, instrumented: Instrument) -> None:
    """Callbacks get it without any store."""
    records: list[CallRecord] = []
    remove = add_callback("after_record", records.append)  # type: ignore[arg-type]
    instrumented(stores=())
    question: Any = [{"role": "user", "content": "x" * characters}]
    stream = client.chat.completions.create(model="gpt-5", messages=question, stream=True)
    assert [record.outcome for record in records] == ["in_progress"]
    list(stream)
    remove()
    assert [record.outcome for record in records] == ["in_progress", "success"]
    assert (b"xxx" in bytes(records[0].request.body or b"")) is kept


@pytest.mark.parametrize(
    ("limit", "content"), [(0, "full"), (2, "full"), (1000, "full"), (1000, "metadata"), (1000, "off")]
)
def test_chunk_log_is_limited(limit: int, content: Any, provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply(text="sesame two three four five")
    with capture(content=content, **({"chunk_log": limit} if limit else {})) as seen:
        read = len(list(client.chat.completions.create(**CHAT, stream=True)))
        record = the_call(seen)
    notes = record.stream.log
    assert record.stream.chunks == read
    assert len(notes) == min(limit, read)
    assert [note.offset_ns for note in notes] == sorted(note.offset_ns for note in notes)
    assert (b"sesame" in encode(record)) == (content == "full")
    if limit > read:
        assert notes[0].offset_ns == record.timing.first_chunk_ns
        assert notes[-1].offset_ns == record.timing.last_chunk_ns
        assert next(note.offset_ns for note in notes if note.content) == record.timing.first_token_ns
        assert {note.choice for note in notes} <= {0, None}


def test_slow_redactor_delays_no_call(provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path) -> None:
    """Dropped streams end on a thread of callspan's."""
    begun, may_end = threading.Event(), threading.Event()
    redacted: list[tuple[str, str]] = []

    def redact(record: Any) -> Any:
        if isinstance(record, CallRecord) and record.outcome == "cancelled":
            begun.set()
            assert may_end.wait(HANG_S)
        if isinstance(record, CallRecord) and record.outcome != "in_progress":
            redacted.append((record.outcome, threading.current_thread().name))
        return record

    def others() -> None:
        client.chat.completions.create(**CHAT)
        list(client.chat.completions.create(**CHAT, stream=True))
        with callspan.session() as session, session.timestep() as step:
            step.reward(1.0)
            client.chat.completions.create(**CHAT)
        with callspan.record_call(provider="mine") as call:
            call.request({"model": "m", "messages": QUESTION})

    provider.reply(text="one two three", repeat=True)
    handle = instrumented(redact=redact, stores=f"jsonl:///{tmp_path}/calls.jsonl")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        next(iter(client.chat.completions.create(**CHAT, stream=True)))
        gc.collect()
        others()
        assert begun.wait(HANG_S)
        others()
        # Had one of them waited, it would have done so until the redactor gave up.
        assert redacted == [("success", "MainThread")] * 8
        may_end.set()
        assert handle.force_flush(HANG_MS)
    assert [thread for outcome, thread in redacted if outcome == "cancelled"] == ["callspan-deferred-ends"]


class Weather(BaseModel):
    degrees: int


HELPERS = ("chat", "responses", "messages", "beta messages")
FINALS = ("get_final_completion", "get_final_response", "get_final_message")


def helper(name: str, mode: Mode, *, parses: bool) -> Any:
    """The stream of a helper of an SDK, whose answer is to be parsed or not."""
    if name == "chat":
        return parsing(mode).stream(**CHAT, **({"response_format": Weather} if parses else {}))
    if name == "responses":
        sdks.needs("openai", "1.70", "parsed streams of Responses")
        return mode.openai().responses.stream(**REQUESTS["responses"], **({"text_format": Weather} if parses else {}))
    if parses:
        sdks.needs("anthropic", "1.0", "parsed streams")
    client = mode.anthropic()
    if name == "beta messages":
        sdks.needs_name(client, "beta.messages.stream")
        client = client.beta
    return client.messages.stream(**MESSAGE, **({"output_format": Weather} if parses else {}))


async def used(mode: Mode, manager: Any, use: str) -> None:
    """Use the stream of a helper: iterate over it, unless `use` says something else."""
    async with mode.entered(manager) as stream:
        if use == "text":
            if not hasattr(stream, "text_stream"):
                pytest.skip("only messages have a stream of text")
            await mode.all(stream.text_stream)
        elif use == "until done":
            await mode.wait(stream.until_done())
        elif use == "final":
            method = next(name for name in FINALS if hasattr(stream, name))
            await mode.wait(getattr(stream, method)())
        elif use != "unread":
            async for _ in mode.items(stream):
                if use == "left":
                    break
                if use == "raises":
                    raise KeyError("of the application")


@pytest.mark.parametrize("use", ["iterated", "text", "until done", "final", "left", "unread", "raises"])
@pytest.mark.parametrize("name", HELPERS)
async def test_stream_helper_records_its_end(name: str, use: str, mode: Mode, seen: Capture) -> None:
    is_left = use in ("left", "unread", "raises")
    mode.provider.reply(text="I am well.", **({"chunk_delay_s": HANG_S} if is_left else {}))
    raised = await caught(used(mode, helper(name, mode, parses=False), use))
    assert isinstance(raised, KeyError if use == "raises" else type(None))
    record = the_call(seen)
    assert record.error is None
    if is_left:
        assert (record.outcome, record.stream.end) == ("cancelled", "closed")
        assert (record.stream.chunks == 0) == (use == "unread")
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


@pytest.mark.parametrize("use", ["iterated", "until done", "final"])
@pytest.mark.parametrize(("answer", "name"), [(answer, name) for answer in ANSWERS for name in ANSWERS[answer][0]])
async def test_unparsable_answer_fails_the_call(answer: str, name: str, use: str, mode: Mode, seen: Capture) -> None:
    _, reply, kind, exception = ANSWERS[answer]
    mode.provider.reply(**reply)
    raised = await caught(used(mode, helper(name, mode, parses=True), use))
    record = the_call(seen)
    assert (raised is None, record.error and record.error.kind) == (kind is None, kind)
    assert (record.outcome, record.stream.end) == (("success", "complete") if kind is None else ("error", "error"))
    assert exception is None or (record.error and record.error.exception) == exception


async def test_resumed_response_is_one_call(mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "2.0", "the resumption of a stream")
    client = mode.openai()
    response = await mode.wait(client.responses.create(model="gpt-5", input="hi"))
    await mode.all(await mode.wait(client.responses.retrieve(response.id, stream=True)))
    async with mode.entered(client.responses.stream(response_id=response.id)) as stream:
        await mode.all(stream)
    assert len(seen.records) == 1
    assert len(mode.provider.requests) == 3


CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"par"}}]}\n\n'
ENDED = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
OUTSIDE = {
    "a field": (b'error: {"code":500,"message":"failed","type":"server_error"}\n\n', "failed", "server"),
    "a field with text": (b"error: out of memory\n\n", "out of memory", "unknown"),
    "a field with an envelope": (b'error:{"error":{"message":"failed"}}\r\n\r\n', "failed", "unknown"),
    "a line": (b'{"error": {"message": "failed", "code": 429}}\n', "failed", "rate_limit"),
    "a line without an end": (b'{"object":"error","message":"failed"}', "failed", "unknown"),
    "several lines": (b'{\n "error": {\n "message": "failed"\n }\n}\n', "failed", "unknown"),
    "an event": (b'event: error\ndata: {"message": "failed", "code": 503}\n\n', "failed", "overloaded"),
    "before the end": (b"error: failed\n\ndata: [DONE]\n\n", "failed", "unknown"),
}
"""Errors that the SDK's decoder ignores, with message and kind."""


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize(("stated", "message", "kind"), OUTSIDE.values(), ids=OUTSIDE)
async def test_error_outside_event_data_fails_the_call(
    stated: bytes, message: str, kind: str, pieces: int, mode: Mode, seen: Capture
) -> None:
    """As llama.cpp and gateways write it. The caller gets what the SDK gives."""
    mode.provider.reply(raw=CHUNK * pieces + stated, headers={"content-type": "text/event-stream"})
    stream = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
    assert len(await mode.all(stream)) >= pieces
    record = the_call(seen)
    assert (record.outcome, record.text, record.stream and record.stream.end) == ("error", "par" * pieces, "error")
    assert (record.error and record.error.message, record.error and record.error.kind) == (message, kind)


async def test_error_outside_event_data_is_read_from_raw_bytes(mode: Mode, seen: Capture) -> None:
    for stated in (b"error: failed\n\n", b'{"error": {"message": "failed"}}\n\n'):
        mode.provider.reply(raw=CHUNK + stated, headers={"content-type": "text/event-stream"})
        chat = mode.openai().chat.completions.with_streaming_response
        async with mode.entered(chat.create(**CHAT, stream=True)) as response:
            await mode.whole(response.iter_bytes())
    assert [(one.outcome, one.text, one.error and one.error.message) for one in seen.records] == [
        ("error", "par", "failed")
    ] * 2


REFUSED = (
    b'data: {"id":"c","error":{"code":400,"message":"failed"},"choices":[{"index":0,"delta":{"content":"tly"}}],'
    b'"usage":{"prompt_tokens":43,"completion_tokens":10,"total_tokens":53}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("chunks", [0, 1, 1000])
async def test_usage_beside_an_error_is_kept(chunks: int, mode: Mode, seen: Capture) -> None:
    """As OpenRouter states it. The SDK raises the error and drops its event."""
    mode.provider.reply(raw=CHUNK * chunks + REFUSED, headers={"content-type": "text/event-stream"})
    stream = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
    error = await caught(mode.all(stream))
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (str(error), record.outcome, record.text) == ("failed", "error", "par" * chunks + "tly")
    assert (usage.input_tokens, usage.output_tokens) == (43, 10)
    assert record.stream is not None
    assert record.stream.chunks == chunks


@pytest.mark.parametrize("text", ["error: x", '{\\"error\\": 1}', "event: error\\ndata: {}", '\\n{\\"error\\": 1}'])
async def test_answer_text_is_not_taken_for_an_error(text: str, mode: Mode, seen: Capture) -> None:
    said = CHUNK.replace(b"par", text.encode())
    for number in (1, 100):
        mode.provider.reply(raw=b": ping\n\n" + said * number + ENDED, headers={"content-type": "text/event-stream"})
        await mode.all(await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True)))
    assert [record.outcome for record in seen.records] == ["success"] * 2


RAW_READS: Final = {
    "openai": lambda mode: mode.openai().chat.completions.create(**CHAT, stream=True),
    "anthropic": lambda mode: mode.anthropic().messages.create(**{**MESSAGE, "stream": True}),
}


@pytest.mark.parametrize("is_left", [False, True], ids=["read", "left"])
@pytest.mark.parametrize("name", RAW_READS)
async def test_bytes_that_pass_around_the_stream_are_stated_as_unread(
    name: str, is_left: bool, mode: Mode, seen: Capture
) -> None:
    mode.provider.reply(text="Well, well.", **({"chunk_delay_s": 0.02} if is_left else {}))
    response = (await mode.wait(RAW_READS[name](mode))).response
    async for _ in mode.items(response.aiter_raw() if mode.is_async else response.iter_raw()):
        if is_left:
            break
    await mode.wait(response.aclose() if mode.is_async else response.close())
    record = the_call(seen)
    assert record.response is not None
    assert record.stream is not None
    expected = ("cancelled", "closed") if is_left else ("success", "complete")
    assert (record.outcome, record.stream.end, record.response.unread) == (*expected, True)
    assert (record.usage, record.text) == (None, None)
