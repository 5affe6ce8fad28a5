"""Attempts of retried calls, compared with the log of the server; many calls at once; failed calls and their errors."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import pairwise
from typing import Any, Final

import openai
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from tests.support import sdks
from tests.support.calls import CHAT, Wire, caught, conversation_of, the_call
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.waiting import until

from callspan import open_store
from callspan.records import CallRecord
from callspan.testing import Capture, ReceivedRequest, Reply, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("short_waits")
LIMITED = {"status": 429, "headers": {"retry-after-ms": "6"}}
BROKEN: dict[str, Any] = {"status": 500, "headers": {"retry-after-ms": "3"}}
WELL = {"text": "I am well."}


def counts(record: CallRecord) -> bool:
    """Whether the SDK tells the server how often it has tried."""
    return sdks.OPENAI >= (1, 55) if record.api != "messages" else sdks.ANTHROPIC >= (0, 40)


def assert_log_agrees(record: CallRecord, log: Sequence[ReceivedRequest]) -> None:
    """The server saw each attempt between its start and its end, in order, and counts retries as we do.

    Our offsets count from the start of the call; one shift must bring all of them to the server's clock.
    """
    attempts = record.attempts
    assert [attempt.number for attempt in attempts] == list(range(1, len(log) + 1))
    counted = list(range(len(log))) if counts(record) else [None] * len(log)
    assert [request.retry_count for request in log] == counted
    assert record.retries == len(log) - 1
    pairs = list(zip(attempts, log, strict=True))
    at_least = max(request.time_ns - (attempt.end_ns or 0) for attempt, request in pairs)
    at_most = min(request.time_ns - attempt.start_ns for attempt, request in pairs)
    assert at_least <= at_most
    for before, after in pairwise(attempts):
        assert before.end_ns <= after.start_ns
        assert before.wait_s == (after.start_ns - before.end_ns) / 1e9
    assert attempts[-1].wait_s is None


COSTLY = {"status": 500, "headers": {**BROKEN["headers"], "x-litellm-response-cost": "0.02"}}
STATING = {**BROKEN, "raw": {"error": {"message": "x"}, "usage": {"prompt_tokens": 9, "cost": 0.04}}}
STATED = {"usage": {"prompt_tokens": 1, "cost": 0.3}}


@pytest.mark.parametrize(
    ("first", "last", "costs", "total", "estimated"),
    [
        (COSTLY, STATED, ["0.02", None], "0.32", True),
        (STATING, STATED, ["0.04", None], "0.34", False),
        (BROKEN, STATED, [None, None], "0.3", False),
        (COSTLY, {"status": 400}, ["0.02", None], "0.02", True),
        (COSTLY, {"usage": {"prompt_tokens": 1}}, ["0.02", None], "0.02", True),
    ],
)  # fmt: skip
async def test_retried_attempt_cost_counts_in_the_call(
    first: Any, last: Any, costs: list[str | None], total: str, estimated: bool, mode: Mode, store: str
) -> None:
    for reply in (first, last):
        mode.provider.reply(**reply)
    with capture(stores=store) as seen, suppress(openai.BadRequestError):
        await mode.wait(mode.openai(max_retries=1).chat.completions.create(**{**CHAT, "model": "no-price"}))
    (record,) = seen.records
    assert [attempt.cost and str(attempt.cost.usd) for attempt in record.attempts] == costs
    with closing(open_store(store, deliver=True)) as reader:
        (stored,) = reader.calls()
        (sums,) = reader.summary(())
    assert stored.cost is not None
    assert (str(stored.cost.usd), stored.cost.estimated, str(sums.cost_usd)) == (total, estimated, total)


def shown(record: CallRecord) -> list[tuple[int | None, str | None, str | None]]:
    return [(attempt.status, attempt.error_kind, attempt.request_id) for attempt in record.attempts]


def watched(wire: Wire, client: Any, act: Callable[[Any], None]) -> Any:
    """The client, with a function that sees each HTTP request before it is sent."""

    async def act_async(request: Any) -> None:
        act(request)

    client._client.event_hooks = {"request": [act_async if wire.mode.is_async else act]}
    return client


async def test_timeout_is_an_attempt(shaped: Wire, seen: Capture) -> None:
    """The first two requests wait a tenth of a second and no longer; a loaded machine answers the third."""
    shaped.script({"hang": True}, {"hang": True}, WELL)
    patience = [0.1, 0.1]

    def shorten(request: Any) -> None:
        if patience:
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": patience.pop()}

    await shaped.call(watched(shaped, shaped.client(max_retries=2), shorten))
    record = the_call(seen)
    assert shown(record) == [(None, "timeout", None), (None, "timeout", None), (200, None, "req_3")]
    assert [attempt.error_type for attempt in record.attempts] == ["ReadTimeout", "ReadTimeout", None]
    assert (record.outcome, record.retries, record.rate_limited) == ("success", 2, False)
    assert_log_agrees(record, shaped.mode.provider.requests)
    first = record.attempts[0]
    assert (first.headers_ns, first.end_ns - first.start_ns >= 0.1e9) == (None, True)


CALLS: Final = scaled(24, 50)
MAX_RETRIES: Final = 3
FAILURES: Final = (500, 429, 503, 409)


def statuses(question: str) -> list[int]:
    """What is answered to a question, in order: its number says how many failures."""
    failures = int(question.removeprefix("q")) % (MAX_RETRIES + 2)
    return [*FAILURES[:failures], 200][: MAX_RETRIES + 1]


class Log(dict[str, list[ReceivedRequest]]):
    """Answers questions, and has the requests of each."""

    def __call__(self, request: ReceivedRequest) -> Reply:
        messages: Any = request.body["messages"]
        question = messages[0]["content"]
        sent = self.setdefault(question, [])
        sent.append(request)
        name = f"req_{question}_{len(sent)}"
        headers = {"x-request-id": name, "request-id": name, "retry-after-ms": "2"}
        return Reply(text=f"answer {question}", status=statuses(question)[len(sent) - 1], headers=headers)


def assert_nobody_elses(seen: Capture, log: Log) -> None:
    """Each record has the attempts that its own question was answered with, all of them, in order."""
    records = seen.records
    assert len(records) == len(seen.spans) == len(log) == CALLS
    assert {record.call_id for record in records} == {dict(span.attributes or {})["llm.item_id"] for span in seen.spans}
    for record in records:
        (message,) = conversation_of(record).input
        question = message.text or ""
        expected = [(status, f"req_{question}_{number}") for number, status in enumerate(statuses(question), 1)]
        assert [(attempt.status, attempt.request_id) for attempt in record.attempts] == expected
        assert record.rate_limited == any(status == 429 for status, _ in expected)
        assert record.outcome == ("success" if expected[-1][0] == 200 else "error")
        assert_log_agrees(record, log.pop(question))


@pytest.mark.parametrize("shape", ["plain", "stream"])
async def test_attempts_of_concurrent_calls_on_one_client(shape: str, plain: Wire, seen: Capture) -> None:
    plain.shape = shape
    client, log = plain.client(max_retries=MAX_RETRIES), Log()
    plain.mode.provider.reply(responder=log, repeat=True)

    async def one(number: int) -> None:
        question: Any = [{"role": "user", "content": f"q{number}"}]
        await asyncio.gather(plain.call(client, messages=question), return_exceptions=True)

    if plain.mode.is_async:
        await asyncio.gather(*map(one, range(CALLS)))
    else:
        with ThreadPoolExecutor(CALLS) as pool:
            list(pool.map(lambda number: asyncio.run(one(number)), range(CALLS)))
    assert_nobody_elses(seen, log)


async def test_attempt_span_is_a_child_of_the_call_and_never_current(shaped: Wire) -> None:
    """What an instrumentation of the HTTP client would make is a child of the call, too."""
    current: list[int] = []

    def look(_: Any) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    shaped.script(LIMITED, BROKEN, WELL)
    with capture(attempt_spans=True) as traced:
        await shaped.call(watched(shaped, shaped.client(max_retries=2), look))
    assert trace.get_current_span() is trace.INVALID_SPAN
    (call,) = [span for span in traced.spans if "llm.item_id" in (span.attributes or {})]
    attempts = sorted((span for span in traced.spans if span is not call), key=lambda span: span.start_time or 0)
    assert current == [call.context.span_id] * 3
    for span in attempts:
        assert (span.name, span.kind) == ("POST", SpanKind.CLIENT)
        assert span.parent == call.context
    attributes = [dict(span.attributes or {}) for span in attempts]
    assert [each["http.response.status_code"] for each in attributes] == [429, 500, 200]
    assert [each.get("http.request.resend_count") for each in attributes] == [None, 1, 2]
    assert {each["http.request.method"] for each in attributes} == {"POST"}
    assert {each["server.address"] for each in attributes} == {"127.0.0.1"}
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [each.get("callspan.error.kind") for each in attributes] == ["rate_limit", "server", None]
    assert not any(name.startswith(("gen_ai.", "llm.request")) for each in attributes for name in each)


@pytest.mark.parametrize(
    ("stated", "server_ns"),
    [("42", 42_000_000), ("7.5", 7_500_000), ("0", 0), ("", None), ("soon", None), ("-3", None), (None, None)],
)
def test_server_time_is_read_from_headers(
    stated: str | None, server_ns: int | None, provider: ScriptedProvider, client: openai.OpenAI, seen: Capture
) -> None:
    provider.reply(headers={"openai-processing-ms": stated})
    client.chat.completions.create(**CHAT)
    assert the_call(seen).timing.server_ns == server_ns
    shown = (seen.spans[0].attributes or {}).get("callspan.answer.server_s")
    assert shown == (None if server_ns is None else server_ns / 1e9)


# Failed calls.

FAILED: Final[dict[str, tuple[dict[str, Any], tuple[str, str, bool]]]] = {
    # what is scripted; outcome, kind, whether it may be tried again
    "status": ({"status": 400, "message": "Nothing doing."}, ("error", "bad_input", False)),
    "hang": ({"hang": True}, ("timeout", "timeout", True)),
    "malformed": ({"text": "one two three", "malformed": True}, ("error", "parsing", False)),
    "cut": ({"text": "one two three", "body_cut": True}, ("error", "connection", True)),
}


@pytest.mark.parametrize("failure", FAILED)
async def test_failed_call_records_reason_without_exception(failure: str, shaped: Wire, seen: Capture) -> None:
    reply, expected = FAILED[failure]
    shaped.mode.provider.reply(**reply)
    raised = await caught(shaped.call(shaped.client(timeout=0.1) if failure == "hang" else None))
    name, gone = type(raised).__name__, weakref.ref(raised)  # type: ignore[arg-type]
    record = the_call(seen)
    assert (record.outcome, record.error.kind, record.error.retryable) == expected
    # The caller parses a raw response himself, later.
    assert (record.error.exception or name).endswith(name)
    headers_were_well = failure == "malformed" or (failure == "cut" and shaped.shape == "stream")
    status = 400 if failure == "status" else 200 if headers_were_well else None
    assert [attempt.status for attempt in record.attempts] == [status]
    if failure == "cut":
        assert record.attempts[0].error_kind == "connection"
        assert [event.name for event in seen.spans[0].events].count("llm.attempt") == 1
    if failure == "malformed" and shaped.shape == "raw":
        assert record.response is None or not bytes(record.response.body)
    raised = None

    # What has a finalizer goes first, and what it held with the next round; a thread of ours may hold it for a moment.
    def freed() -> bool:
        gc.collect()
        return gone() is None

    until(freed)


async def test_status_raised_by_application_hook_is_recorded(mode: Mode, seen: Capture) -> None:
    """As transports do that retry by themselves. Older SDKs make a connection error of it."""
    library = sdks.http_of("openai")

    async def refuse(response: Any) -> None:
        response.raise_for_status()

    hook = refuse if mode.is_async else library.Response.raise_for_status
    kind = library.AsyncClient if mode.is_async else library.Client
    mode.provider.reply(status=429, text="slow down")
    client = mode.openai(http_client=kind(event_hooks={"response": [hook]}))
    raised = await caught(Wire("chat_completions", mode).ask(client))
    record = the_call(seen)
    assert (shown(record)[0][:2], record.rate_limited) == ((429, "rate_limit"), True)
    assert record.error is not None
    if type(raised).__name__ == "HTTPStatusError":
        assert (record.error.kind, record.error.status, record.error.retryable) == ("rate_limit", 429, True)


REFUSAL = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "refusal",
    "content": [{"type": "text", "text": "No. "}], "usage": {"input_tokens": 7, "output_tokens": 3},
    "stop_details": {"type": "refusal", "fallback_credit_token": "t", "fallback_has_prefill_claim": False},
}  # fmt: skip
MESSAGE: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": CHAT["messages"]}


@pytest.mark.parametrize("way", ["plain", "stream", "raw stream"])
async def test_middleware_request_during_stream_is_an_attempt(way: str, mode: Mode, seen: Capture) -> None:
    """A refusal is answered by another model, for which the middleware sends a request of its own."""
    middleware = pytest.importorskip("anthropic.lib.middleware")
    mode.provider.reply(raw=REFUSAL, headers={"request-id": "req-1"})
    mode.provider.reply(text="Yes.", headers={"request-id": "req-2"})
    client = mode.anthropic(middleware=[middleware.BetaRefusalFallbackMiddleware([{"model": "other"}])])
    messages = client.beta.messages
    if way == "raw stream":
        create = messages.with_streaming_response.create
        async with mode.entered(create(**MESSAGE, stream=True)) as response:
            await mode.whole(response.iter_bytes())
    else:
        answer = await mode.wait(messages.create(**MESSAGE, stream=way == "stream"))
        if way == "stream":
            await mode.all(answer)
    record = the_call(seen)
    assert shown(record) == [(200, None, "req-1"), (200, None, "req-2")]
    assert [request.path for request in mode.provider.requests] == ["/v1/messages"] * 2
    assert (record.outcome, record.retries) == ("success", 0)
    first, second = record.attempts
    assert (first.may_be_billed, second.may_be_billed) == (True, False), "the usage of the refusal is unknown"
    assert first.headers_ns is not None
    assert first.start_ns < first.headers_ns <= second.start_ns
    # Other requests of the application are none of the call.
    await mode.wait(mode.anthropic().messages.create(**MESSAGE))
    assert len(seen.records) == 2
    assert len(seen.records[0].attempts) == 2
