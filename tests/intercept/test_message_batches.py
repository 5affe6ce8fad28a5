"""Batches of anthropic: one call for each line, with its request where it was seen, and one span for the results."""

from __future__ import annotations

import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from callspan import session
from callspan.observe.unrecognized import forget_warnings
from callspan.record.ids import batch_call_id, batch_line_id
from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
pytestmark = pytest.mark.skipif(sdks.ANTHROPIC < (0, 42), reason="anthropic has batches of messages since 0.42")


needs_raw_results = pytest.mark.skipif(
    sdks.ANTHROPIC < (2, 0), reason="the raw ways to read results are newer than anthropic 0.125"
)


def request(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {number}"}]
    return {"custom_id": f"line-{number}", "params": {"model": "claude-x", "max_tokens": 9, "messages": messages}}


async def create(mode: Mode, lines: int, *, beta: bool = False) -> tuple[Any, str]:
    client = mode.anthropic()
    batches = client.beta.messages.batches if beta else client.messages.batches
    batch = await mode.wait(batches.create(requests=[request(number) for number in range(lines)]))
    await mode.wait(batches.retrieve(batch.id))
    return batches, batch.id


async def read(mode: Mode, batches: Any, batch_id: str) -> list[Any]:
    return [one async for one in mode.items(await mode.wait(batches.results(batch_id)))]


def by_line(seen: Captured) -> dict[str | None, CallRecord]:
    calls = seen.records
    found = {call.custom_id: call for call in calls}
    assert len(found) == len(calls)
    return found


@pytest.mark.parametrize("beta", [False, True], ids=["plain", "beta"])
def test_each_line_is_a_call(mode: Mode, run: Run, seen: Captured, beta: bool) -> None:
    """With request, answer, usage and the error of each; its end and id are those of the provider."""
    mode.provider.reply(text="One.", input_tokens=30, output_tokens=5)
    mode.provider.reply(status=400, message="No.")
    mode.provider.reply(in_batch="expired")
    mode.provider.reply(in_batch="canceled")

    async def body() -> str:
        with session("nightly", session_id="s-1"):
            batches, batch_id = await create(mode, 4, beta=beta)
        results = await read(mode, batches, batch_id)
        assert [one.result.type for one in results] == ["succeeded", "errored", "expired", "canceled"]
        return batch_id

    batch_id = run(body)
    calls = by_line(seen)
    assert {name: call.outcome for name, call in calls.items()} == {
        "line-0": "success", "line-1": "error", "line-2": "timeout", "line-3": "cancelled"
    }  # fmt: skip
    for number, call in enumerate(calls.values()):
        assert call.call_id == batch_call_id("anthropic", batch_id, batch_line_id(f"line-{number}"))
        assert (call.batch_id, call.api, call.operation) == (batch_id, "messages", "chat")
        assert (call.request.model, call.place.session_id, call.timing.duration_ns) == ("claude-x", "s-1", None)
        assert [message.text for message in (call.conversation.input if call.conversation else [])] == [
            f"Question {number}"
        ]
    first, second = calls["line-0"], calls["line-1"]
    assert (first.text, first.usage and first.usage.total_tokens, first.error) == ("One.", 35, None)
    assert first.response is not None
    assert first.response.finish_reasons == ["end_turn"]
    assert second.error is not None
    assert (second.error.type, second.error.message, second.usage) == ("invalid_request_error", "No.", None)


def test_spans_are_of_the_batch(mode: Mode, run: Run, seen: Captured) -> None:
    """One for its creation, one for the first reading of its results, linked; none for a line."""
    mode.provider.reply(status=500)

    async def body() -> str:
        with session("nightly", session_id="s-1") as outer, outer.timestep():
            batches, batch_id = await create(mode, 3)
            for _ in range(3):
                await read(mode, batches, batch_id)
        return batch_id

    batch_id = run(body)
    created, results = [span for span in seen.spans if span.kind is SpanKind.CLIENT]
    for span in (created, results):
        of_span = dict(span.attributes or {})
        names = ("session.id", "gen_ai.conversation.id", "callspan.step.index")
        assert tuple(of_span[name] for name in names) == ("s-1", "s-1", 0)
    assert (created.name, results.name) == ("create_batch", "batch_results")
    assert [link.context.span_id for link in results.links] == [created.context and created.context.span_id]
    shown = dict(results.attributes or {})
    assert (shown["callspan.batch.id"], shown["callspan.batch.complete"]) == (batch_id, True)
    assert (shown["callspan.batch.read.error"], shown["callspan.batch.read.success"]) == (1, 2)
    assert not [name for name in shown if "usage" in name]
    versions = [record.part for record in seen.everything if isinstance(record, CallRecord)]
    assert versions == ["requested"] * 3 + ["answered"] * 3
    assert {call.span_id for call in seen.records} == {f"{created.context.span_id:016x}" if created.context else None}


def test_a_reader_that_breaks_off_leaves_what_it_has_read(mode: Mode, run: Run, seen: Captured) -> None:
    """The next reading has the rest; no line is recorded twice."""
    many = 40

    async def first() -> tuple[Any, str]:
        batches, batch_id = await create(mode, many)
        decoder = await mode.wait(batches.results(batch_id))
        for _ in range(7):
            await mode.next(decoder)
        await mode.wait(decoder.http_response.aclose() if mode.is_async else decoder.close())
        del decoder
        gc.collect()
        successful = [call for call in seen.records if call.outcome == "success"]
        assert 7 <= len(successful) < many
        assert dict(seen.spans[1].attributes or {})["callspan.batch.complete"] is False
        assert len(await read(mode, batches, batch_id)) == many
        return batches, batch_id

    run(first)
    assert [call.outcome for call in by_line(seen).values()] == ["success"] * many
    versions = [record.part for record in seen.everything if isinstance(record, CallRecord)]
    assert versions.count("answered") == many


def test_requests_that_were_not_seen_are_absent(mode: Mode, run: Run, seen: Captured) -> None:
    """Another process created the batch: the calls consist of their answers."""

    async def body() -> None:
        with capture():
            batches, batch_id = await create(mode, 2)
        await read(mode, batches, batch_id)

    run(body)
    for call in by_line(seen).values():
        assert (call.outcome, call.text) == ("success", "Hello from the scripted provider.")
        assert (call.request.model, bytes(call.request.body), call.part) == (None, b"", "answered")
        assert call.conversation is not None
        assert call.conversation.input == []


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_content_that_is_off_is_in_no_version(mode: Mode, run: Run, content: Any) -> None:
    """Neither of requests nor of answers."""
    with capture(content=content) as seen:

        async def body() -> None:
            await read(mode, *await create(mode, 2))

        run(body)
        for record in seen.everything:
            assert isinstance(record, CallRecord)
            assert bytes(record.request.body) == b""
            assert record.response is None or bytes(record.response.body) == b""
        assert [call.usage is not None for call in seen.records] == [True, True]


@needs_raw_results
@pytest.mark.parametrize("way", ["with_raw_response", "with_streaming_response"])
def test_results_of_raw_responses_are_read_as_well(mode: Mode, run: Run, seen: Captured, way: str) -> None:
    async def body() -> None:
        batches, batch_id = await create(mode, 3)
        await mode.wait(batches.retrieve(batch_id))
        if way == "with_raw_response":
            response = await mode.wait(batches.with_raw_response.results(batch_id))
            decoder = await mode.wait(response.parse())
            assert len([one async for one in mode.items(decoder)]) == 3
        elif mode.is_async:
            async with batches.with_streaming_response.results(batch_id) as response:
                assert (await response.read()).count(b"\n") == 3
        else:
            with batches.with_streaming_response.results(batch_id) as response:
                assert response.read().count(b"\n") == 3

    run(body)
    assert [call.outcome for call in by_line(seen).values()] == ["success"] * 3


def test_a_batch_that_is_refused_has_a_failed_span(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(status=400, on="/batches")

    async def body() -> None:
        with pytest.raises(Exception, match="400"):
            await create(mode, 2)

    run(body)
    (span,) = seen.spans
    assert (span.name, span.status.status_code.name, span.status.description) == (
        "create_batch", "ERROR", "invalid_request_error"
    )  # fmt: skip
    assert seen.records == []


@needs_raw_results
def test_the_bytes_are_those_of_the_provider(mode: Mode, run: Run) -> None:
    """With and without callspan, in the same pieces."""

    async def body() -> list[bytes]:
        batches, batch_id = await create(mode, 3)
        await mode.wait(batches.retrieve(batch_id))
        raw = (
            b'{"custom_id":"a","result":{"type":"expired"}}\r\n\n{"custom_id":"b\xc3\xa4","result":{"type":"canceled"}}'
        )
        mode.provider.reply(raw=raw, on="/results")
        if mode.is_async:
            async with batches.with_streaming_response.results(batch_id) as response:
                return [piece async for piece in response.iter_bytes(7)]
        with batches.with_streaming_response.results(batch_id) as response:
            return list(response.iter_bytes(7))

    plain = run(body)
    with capture() as seen:
        assert run(body) == plain
        assert {call.custom_id: call.outcome for call in seen.records if call.outcome != "in_progress"} == {
            "a": "timeout", "bä": "cancelled"
        }  # fmt: skip


@pytest.mark.parametrize("result", [None, [], "succeeded", 7, {}, {"type": ["succeeded"]}])
def test_a_line_without_a_readable_result_is_a_failed_call(
    result: object, mode: Mode, run: Run, seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """The lines around it are recorded as usual."""
    good = {"type": "canceled"}
    lines = [
        {"custom_id": "a", "result": good},
        {"custom_id": "b", "result": result},
        {"custom_id": "c", "result": good},
    ]
    raw = "".join(json.dumps(line) + "\n" for line in lines).encode()

    async def body() -> None:
        mode.provider.reply(raw=raw, on="/results")
        response = sdks.http_of("anthropic").Response
        path = "/v1/messages/batches/msgbatch_1/results"
        assert (await mode.wait(mode.anthropic().get(path, cast_to=response))).content == raw

    run(body)
    assert [(call.custom_id, call.outcome) for call in seen.records] == [
        ("a", "cancelled"), ("b", "error"), ("c", "cancelled"),
    ]  # fmt: skip
    assert caplog.messages == []


def test_an_answer_that_is_no_batch_is_not_judged_as_a_call(
    mode: Mode, run: Run, seen: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is a fetch: neither has a record whose body would be kept."""
    forget_warnings()

    async def body() -> None:
        mode.provider.reply(raw=b"null", repeat=True)
        mode.provider.reply(raw=b"null", on="/msgbatch_1")
        mode.provider.reply(raw=b"null", on="/resp_1")
        await mode.wait(mode.anthropic().get("/v1/messages/batches/msgbatch_1", cast_to=object))
        await mode.wait(mode.openai().get("/responses/resp_1", cast_to=object))

    run(body)
    assert (seen.everything, seen.spans, caplog.messages) == ([], [], [])
