"""Background responses: a call in progress, completed once, by the first fetch of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import openai
import pytest
from opentelemetry.trace import SpanKind

from callspan import open_store
from callspan.records import CallRecord, Place
from callspan.testing import Captured, capture
from tests.support import sdks
from tests.support.calls import Run
from tests.support.mode import Mode

pytestmark = pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79")


def create(client: Any, **more: Any) -> Any:
    return client.responses.create(**{"model": "gpt-5", "input": "How are you?", "background": True, **more})


async def created_and(mode: Mode, act: Callable[[Any, str], Awaitable[Any]], **options: Any) -> None:
    client = mode.openai(**options)
    await act(client, (await mode.wait(create(client))).id)


async def poll(mode: Mode, client: Any, response_id: str, times: int) -> None:
    for _ in range(times):
        await mode.wait(client.responses.retrieve(response_id))


def the_call(seen: Captured) -> CallRecord:
    (record,) = seen.records
    return record


def attributes(seen: Captured, number: int = 0) -> dict[str, Any]:
    return dict(seen.spans[number].attributes or {})


def versions(seen: Captured) -> list[tuple[str, str]]:
    return [(record.part, record.outcome) for record in seen.everything if isinstance(record, CallRecord)]


def test_a_queued_response_is_in_progress(mode: Mode, run: Run, seen: Captured) -> None:
    """No tokens, no success, no error; the span has the status."""
    run(lambda: mode.wait(create(mode.openai())))
    record = the_call(seen)
    assert (record.outcome, record.usage, record.error, record.part) == ("in_progress", None, None, "requested")
    assert (record.response and record.response.status) == "queued"
    (span,) = seen.spans
    shown = attributes(seen)
    assert (shown["gen_ai.response.status"], shown["callspan.outcome"]) == ("queued", "in_progress")
    assert shown["callspan.call_id"] == shown["llm.item_id"] == record.call_id
    assert "gen_ai.usage.input_tokens" not in shown
    assert span.status.is_unset


def test_polls_complete_the_call_once(mode: Mode, run: Run, seen: Captured) -> None:
    """Five polls, tokens once: on the record, and on the one span of the fetch that found the answer."""
    mode.provider.reply(text="I am well.", polls=2, input_tokens=30, output_tokens=5)
    run(lambda: created_and(mode, lambda client, job: poll(mode, client, job, 5)))
    record = the_call(seen)
    assert versions(seen) == [("requested", "in_progress"), ("answered", "success")]
    assert record.usage is not None
    assert (record.outcome, record.usage.total_tokens, record.text) == ("success", 35, "I am well.")
    assert (record.request.model, record.response and record.response.status) == ("gpt-5", "completed")
    created, fetched = seen.spans
    assert (fetched.name, fetched.kind, len(fetched.links)) == ("fetch_response", SpanKind.CLIENT, 1)
    assert fetched.links[0].context.span_id == created.get_span_context().span_id
    shown = attributes(seen, 1)
    assert (shown["gen_ai.usage.input_tokens"], shown["gen_ai.usage.output_tokens"]) == (30, 5)
    assert (shown["gen_ai.operation.name"], shown["gen_ai.response.status"]) == ("fetch_response", "completed")
    assert shown["callspan.call_id"] == record.call_id
    assert "gen_ai.usage.input_tokens" not in attributes(seen, 0)


ENDS: dict[str, tuple[str, str, str | None]] = {
    # what is scripted or done: its finish reason, the outcome, what the record says of the finish
    "completed": ("stop", "success", "completed"),
    "cut": ("length", "success", "max_output_tokens"),
    "failed": ("failed", "error", "failed"),
    "cancelled": ("stop", "cancelled", None),
    "streamed": ("stop", "success", "completed"),
    "streamed from an event on": ("stop", "success", "completed"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_response_that_has_ended_says_how_whoever_finds_it(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    """A failed one is an error of the call; the fetch itself has succeeded."""
    reason, outcome, finish = ENDS[name]
    mode.provider.reply(text="I am", finish_reason=reason, polls=9 if name == "cancelled" else 0)

    async def act(client: Any, job: str) -> None:
        if name == "cancelled":
            await mode.wait(client.responses.cancel(job))
        if name.startswith("streamed"):
            more = {"starting_after": 4} if "event" in name else {}
            await mode.all(await mode.wait(client.responses.retrieve(job, stream=True, **more)))
        await poll(mode, client, job, 2)

    run(lambda: created_and(mode, act))
    record = the_call(seen)
    assert versions(seen) == [("requested", "in_progress"), ("answered", outcome)]
    assert (record.error is None, record.usage is None) == (outcome != "error", name == "cancelled")
    assert finish is None or (record.response and record.response.finish_reasons) == [finish]
    assert record.stream is None
    assert [span.name for span in seen.spans] == ["chat gpt-5", "fetch_response"]


def test_a_call_that_is_not_known_here_is_made_of_its_answer(mode: Mode, run: Run) -> None:
    """Another process created the response: its record and this one have the same id."""
    mode.provider.reply(text="Well.", polls=0)

    async def body() -> None:
        client = mode.openai()
        with capture() as other:
            job = await mode.wait(create(client))
        with capture() as seen:
            await poll(mode, client, job.id, 2)
        record = the_call(seen)
        assert (record.call_id, record.part) == (the_call(other).call_id, "answered")
        assert (record.outcome, record.text, record.place) == ("success", "Well.", Place())
        (span,) = seen.spans
        assert (span.name, span.links) == ("fetch_response", ())

    run(body)


SECRET = "whsec_c2VjcmV0"


@pytest.mark.parametrize(("reason", "outcome"), [("stop", "success"), ("failed", "error")])
def test_a_webhook_sets_outcome_and_end_and_a_fetch_the_answer(
    mode: Mode, run: Run, seen: Captured, reason: str, outcome: str
) -> None:
    """Webhooks come several times; the event is the SDK's."""
    sdks.needs("openai", "1.99", "webhooks")
    mode.provider.reply(text="Well.", finish_reason=reason, polls=9)

    async def act(client: Any, job: str) -> None:
        payload, headers = mode.provider.webhook(job, SECRET)
        for _ in range(2):
            assert client.webhooks.unwrap(payload, headers).data.id == job
        half = the_call(seen)
        assert (half.outcome, half.usage, half.timing.duration_ns is None) == (outcome, None, False)
        assert len(seen.spans) == 1
        await poll(mode, client, job, 2)
        client.webhooks.unwrap(payload, headers)

    run(lambda: created_and(mode, act, webhook_secret=SECRET))
    assert versions(seen) == [("requested", "in_progress"), ("ended", outcome), ("answered", outcome)]
    record = the_call(seen)
    assert (record.outcome, record.text, len(seen.spans)) == (outcome, "Well.", 2)


def test_other_webhooks_and_wrong_signatures_make_nothing(mode: Mode, run: Run, seen: Captured) -> None:
    """An event of another kind, and one that is refused."""
    sdks.needs("openai", "1.99", "webhooks")

    async def body() -> None:
        client = mode.openai(webhook_secret=SECRET)
        job = await mode.wait(client.responses.create(model="gpt-5", input="How are you?"))
        payload, headers = mode.provider.webhook(job.id, "whsec_b3RoZXI=")
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(payload, headers)

    run(body)
    assert versions(seen) == [("ended", "success")]


def test_several_processes_that_read_the_same_answer_make_one_row(mode: Mode, run: Run, store: str) -> None:
    """Each writes the same version of the record; each may have a span of its fetch."""
    mode.provider.reply(text="Well.", polls=0)

    async def body() -> None:
        client = mode.openai()
        with capture(stores=store) as first:
            job = await mode.wait(create(client))
            await poll(mode, client, job.id, 2)
        assert versions(first) == [("requested", "in_progress"), ("answered", "success")]
        with capture(stores=store) as later:
            await poll(mode, client, job.id, 2)
        assert (versions(later), len(later.spans)) == ([("answered", "success")], 1)

    run(body)
    with closing(open_store(store)) as reader:
        (call,) = reader.calls()
        (sums,) = reader.summary("model")
    assert (call.outcome, call.text, sums.calls, sums.input_tokens) == ("success", "Well.", 1, 12)
