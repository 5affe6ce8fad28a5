"""Answers that come later: background responses, completed once by the first fetch, and lines of a batch's results.

Each line that is read, in whichever way, is the record of one call, without a span.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from opentelemetry.trace import SpanKind
from tests.conftest import Read
from tests.support import sdks
from tests.support.calls import client_of, spoiled
from tests.support.mode import Mode

from callspan import metadata, session
from callspan.records import CallRecord, encode
from callspan.testing import Capture, capture

pytestmark = [
    pytest.mark.skipif(sdks.OPENAI < (1, 79), reason="openai has background responses since 1.79"),
    pytest.mark.skipif(sdks.ANTHROPIC < (2, 0), reason="the raw ways to read results are newer than anthropic 0.125"),
]


async def created(mode: Mode, **options: Any) -> tuple[Any, str]:
    """A client and the id of a response that it has created."""
    client = mode.openai(**options)
    job = await mode.wait(client.responses.create(model="gpt-5", input="How are you?", background=True))
    return client, job.id


async def poll(mode: Mode, client: Any, response_id: str, times: int) -> None:
    for _ in range(times):
        await mode.wait(client.responses.retrieve(response_id))


def the_record(seen: Capture) -> CallRecord:
    (record,) = seen.records
    return record


def attributes(seen: Capture, number: int = 0) -> dict[str, Any]:
    return dict(seen.spans[number].attributes or {})


def versions(seen: Capture) -> list[tuple[str, str]]:
    """Without that of the start, if a call took more than a second, as on a busy machine; no other call has one."""
    calls = [record for record in seen.everything if isinstance(record, CallRecord)]
    is_long = any((record.timing.duration_ns or 0) >= 1_000_000_000 for record in calls)
    return [(record.part, record.outcome) for record in calls if record.part != "started" or not is_long]


async def test_polls_complete_the_call_once(mode: Mode, seen: Capture) -> None:
    """Until then it has no tokens, no success, no error. Tokens come once, with the fetch that found the answer."""
    mode.provider.reply(text="I am well.", polls=2, input_tokens=30, output_tokens=5)
    client, job = await created(mode)
    queued, shown = the_record(seen), attributes(seen)
    assert (queued.outcome, queued.usage, queued.error, queued.part) == ("in_progress", None, None, "requested")
    assert (queued.response and queued.response.status) == "queued"
    assert (shown["gen_ai.response.status"], shown["callspan.outcome"]) == ("queued", "in_progress")
    assert shown["callspan.call_id"] == shown["llm.item_id"] == queued.call_id
    assert seen.spans[0].status.is_unset
    await poll(mode, client, job, 5)
    record = the_record(seen)
    assert versions(seen) == [("requested", "in_progress"), ("answered", "success")]
    assert (record.outcome, record.usage.total_tokens, record.text) == ("success", 35, "I am well.")
    assert (record.request.model, record.response and record.response.status) == ("gpt-5", "completed")
    asked, fetched = seen.spans
    assert (fetched.name, fetched.kind, len(fetched.links)) == ("fetch_response", SpanKind.CLIENT, 1)
    assert fetched.links[0].context.span_id == asked.get_span_context().span_id
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
async def test_ended_response_records_outcome_in_any_process(name: str, mode: Mode, seen: Capture) -> None:
    """A failed one is an error of the call; the fetch itself has succeeded."""
    reason, outcome, finish = ENDS[name]
    mode.provider.reply(text="I am", finish_reason=reason, polls=9 if name == "cancelled" else 0)
    client, job = await created(mode)
    if name == "cancelled":
        await mode.wait(client.responses.cancel(job))
    if name.startswith("streamed"):
        more = {"starting_after": 4} if "event" in name else {}
        await mode.whole(client.responses.retrieve(job, stream=True, **more))
    await poll(mode, client, job, 2)
    record = the_record(seen)
    assert versions(seen) == [("requested", "in_progress"), ("answered", outcome)]
    assert (record.error is None, record.usage is None) == (outcome != "error", name == "cancelled")
    assert finish is None or (record.response and record.response.finish_reasons) == [finish]
    assert record.stream is None
    assert [span.name for span in seen.spans] == ["chat gpt-5", "fetch_response"]


async def test_fetched_answer_records_times_and_predecessor(mode: Mode, seen: Capture) -> None:
    """In a process that knows nothing of the call."""
    times = {"created_at": 1_700_000_000.25, "completed_at": 1_700_000_007.25}
    about = {"background": True, "previous_response_id": "resp_0", "conversation": {"id": "conv_1"}}
    answer = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": []}
    mode.provider.reply(raw={**answer, **about, **times}, on="/responses/resp_1")
    await mode.wait(mode.openai().responses.retrieve("resp_1"))
    record = the_record(seen)
    assert (record.timing.start_ns, record.timing.duration_ns) == (1_700_000_000 * 10**9, 7 * 10**9)
    assert (record.request.continues, record.request.conversation_id) == ("resp_0", "conv_1")
    assert record.seen_in == "fetch"


SECRET = "whsec_c2VjcmV0"


@pytest.mark.parametrize(("reason", "outcome"), [("stop", "success"), ("failed", "error")])
async def test_webhook_sets_the_end_and_fetch_the_answer(mode: Mode, seen: Capture, reason: str, outcome: str) -> None:
    """Webhooks come several times; the event is the SDK's."""
    sdks.needs("openai", "1.99", "webhooks")
    mode.provider.reply(text="Well.", finish_reason=reason, polls=9)
    client, job = await created(mode, webhook_secret=SECRET)
    payload, headers = mode.provider.webhook(job, SECRET)
    for _ in range(2):
        assert client.webhooks.unwrap(payload, headers).data.id == job
    half = the_record(seen)
    assert (half.outcome, half.usage, half.timing.duration_ns is None) == (outcome, None, False)
    assert (half.error is None) == (outcome == "success")
    assert len(seen.spans) == 1
    await poll(mode, client, job, 2)
    client.webhooks.unwrap(payload, headers)
    assert versions(seen) == [("requested", "in_progress"), ("ended", outcome), ("answered", outcome)]
    record = the_record(seen)
    assert (record.outcome, record.text, len(seen.spans)) == (outcome, "Well.", 2)


async def test_irrelevant_webhooks_record_nothing(mode: Mode, seen: Capture) -> None:
    """An event of another kind, and one that is refused."""
    sdks.needs("openai", "1.99", "webhooks")
    client = mode.openai(webhook_secret=SECRET)
    job = await mode.wait(client.responses.create(model="gpt-5", input="How are you?"))
    payload, headers = mode.provider.webhook(job.id, "whsec_b3RoZXI=")
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(payload, headers)
    payload, now = '{"type": "batch.completed", "data": {"id": "batch_1"}}', int(time.time())
    signature = base64.b64encode(hmac.digest(b"secret", f"evt_1.{now}.{payload}".encode(), "sha256")).decode()
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}
    assert client.webhooks.unwrap(payload, headers).type == "batch.completed"
    assert versions(seen) == [("ended", "success")]


# Lines of a batch's results.

LINES: dict[str, list[dict[str, Any]]] = {
    sdk: [*map(json.loads, Path(__file__).with_name(f"results_{sdk}.jsonl").read_text().splitlines())]
    for sdk in ("openai", "anthropic")
}
SUCCEEDED = LINES["anthropic"][0]
BATCH_PATH = "/v1/messages/batches/msgbatch_1"
PATHS = {"openai": "/files/file-out/content", "anthropic": f"{BATCH_PATH}/results"}
OWNERS = {"openai": "file-out", "anthropic": "msgbatch_1"}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


async def fetched(mode: Mode, sdk: str, kind: Any) -> Any:
    """The results as `client.get` returns them, as `files.retrieve_content` does."""
    return await mode.wait(client_of(mode, sdk).get(PATHS[sdk], cast_to=kind))


def answer(mode: Mode, sdk: str, content: bytes) -> None:
    """Let the provider have results, again and again."""
    mode.provider.reply(raw=content, on=PATHS[sdk], repeat=True)
    batch = {"id": "msgbatch_1", "type": "message_batch", "results_url": mode.provider.url + PATHS["anthropic"]}
    mode.provider.reply(raw=batch, on=BATCH_PATH, repeat=True)


async def read(mode: Mode, sdk: str, way: str) -> None:
    """Read the results in one of the ways of the SDK."""
    if way == "text":
        assert (await fetched(mode, sdk, str)).count("\n") == 4
        return
    resource = mode.openai().files if sdk == "openai" else mode.anthropic().messages.batches
    method = "content" if sdk == "openai" else "results"
    if way in ("streamed", "lines"):
        async with mode.entered(getattr(resource.with_streaming_response, method)(OWNERS[sdk])) as response:
            await mode.all(response.iter_bytes(7) if way == "streamed" else response.iter_lines())
        return
    answer = await mode.wait(getattr(resource.with_raw_response if way == "raw" else resource, method)(OWNERS[sdk]))
    if sdk == "anthropic":
        assert len(await mode.all(await mode.wait(answer.parse()) if way == "raw" else answer)) == 4
    elif way == "typed":
        assert answer.text.count("\n") == len(list(answer.iter_lines())) == 4


def by_line(seen: Capture) -> dict[str | None, CallRecord]:
    found = {call.custom_id: call for call in seen.records}
    assert len(found) == len(seen.records)
    return found


@pytest.mark.parametrize("way", ["typed", "raw", "streamed", "lines", "text"])
async def test_batch_line_is_one_call_however_read(mode: Mode, seen: Capture, sdk: str, way: str) -> None:
    """With answer, usage and the error of each, in the session around the reader. No process need know the batch."""
    answer(mode, sdk, jsonl(LINES[sdk]))
    with session("nightly", session_id="s-1"), metadata(owner="me"):
        await read(mode, sdk, way)
    calls = by_line(seen)
    assert {name: call.outcome for name, call in calls.items()} == {
        "a": "success", "b": "error", "c": "timeout", "d": "cancelled"
    }  # fmt: skip
    for call in calls.values():
        assert (call.batch_id, call.place.session_id, call.metadata) == (OWNERS[sdk], "s-1", {"extra": {"owner": "me"}})
        assert (call.timing.duration_ns, call.span_id, call.is_merged) == (None, None, True)
    totals = seen.sessions[-1].totals
    assert (totals.calls, totals.input_tokens) == (4, 30)
    first, second = calls["a"], calls["b"]
    assert sdk == "anthropic" or first.timing.start_ns == 1_700_000_000 * 10**9
    assert (first.text, first.usage and first.usage.total_tokens, first.error) == ("One.", 35, None)
    assert first.api == ("chat_completions" if sdk == "openai" else "messages")
    assert (second.error.message, second.usage) == ("No.", None)
    assert [span.name for span in seen.spans] == ["invoke_workflow nightly"]


async def test_batch_line_with_only_an_error_failed(mode: Mode, seen: Capture) -> None:
    body = {"error": {"message": "No.", "type": "server_error"}}
    answer(mode, "openai", jsonl([{**LINES["openai"][1], "response": {"status_code": 200, "body": body}}]))
    await fetched(mode, "openai", str)
    (call,) = seen.records
    assert (call.outcome, call.error and call.error.message) == ("error", "No.")


async def test_reread_batch_lines_add_no_rows(mode: Mode, store: str, sdk: str, reading: Read) -> None:
    """In this process nothing is written twice; another one writes the same rows."""
    answer(mode, sdk, jsonl(LINES[sdk]))
    for _ in range(2):
        with capture(stores=store) as seen:
            for way in ("typed", "streamed"):
                await read(mode, sdk, way)
        assert len([one for one in seen.everything if isinstance(one, CallRecord)]) == 4
    reader = reading(store)
    assert len(list(reader.calls())) == 4
    assert [one.input_tokens for one in reader.summary("model") if one.input_tokens] == [30]


async def test_partial_read_of_a_batch_keeps_its_lines(mode: Mode, seen: Capture) -> None:
    """The next one has the rest; no line is written twice."""
    lines = [{**SUCCEEDED, "custom_id": f"line-{number}"} for number in range(40)]
    answer(mode, "anthropic", jsonl(lines))
    batches = mode.anthropic().messages.batches
    decoder = await mode.wait(batches.results("msgbatch_1"))
    for _ in range(7):
        await mode.next(decoder)
    await mode.wait(decoder.http_response.aclose() if mode.is_async else decoder.close())
    assert 7 <= len(seen.records) < 40
    assert len(await mode.all(await mode.wait(batches.results("msgbatch_1")))) == 40
    assert len([one for one in seen.everything if isinstance(one, CallRecord)]) == len(by_line(seen)) == 40


@pytest.mark.parametrize("content", [b"PNG\x00\n\x00" * 20_000, b"PNG\x00" * 20_000, b'{"messages": []}\n' * 9, b""])
async def test_other_files_record_no_call(
    mode: Mode, seen: Capture, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer(mode, "openai", content)
    assert (await mode.wait(mode.openai().files.content("file-out"))).content == content
    async with mode.entered(mode.openai().files.with_streaming_response.content("file-out")) as response:
        assert b"".join(await mode.all(response.iter_bytes(1 << 10))) == content
    assert (seen.everything, seen.spans, caplog.messages) == ([], [], [])


async def test_first_batch_line_may_be_long(mode: Mode, seen: Capture) -> None:
    message = {**SUCCEEDED["result"]["message"], "content": [{"type": "text", "text": "x" * 200_000}]}
    long = {"custom_id": "long", "result": {"type": "succeeded", "message": message}}
    answer(mode, "anthropic", jsonl([long, SUCCEEDED]))
    await read(mode, "anthropic", "lines")
    assert {name: len(call.text or "") for name, call in by_line(seen).items()} == {"long": 200_000, "a": 4}


USED: dict[str, Any] = {"usage": {"input_tokens": 30, "output_tokens": 5}}


@pytest.mark.parametrize(
    ("found", "api"),
    [
        ({"object": "list", "data": [{"object": "embedding"}], "usage": {"prompt_tokens": 30}}, "embeddings"),
        ({"object": "text_completion", "choices": [], "usage": {"prompt_tokens": 30}}, "completions"),
        ({"object": "response", "status": "completed", "output": [], **USED}, "responses"),
        ({"created": 1, "data": [{"b64_json": "AAAA"}], **USED}, "images"),
        ({"id": "modr-1", "results": [], **USED}, "moderations"),
        ({"object": "a.new.thing", **USED}, "unknown"),
    ],
)  # fmt: skip
async def test_batch_answers_are_recognised_by_type_or_fields(found: Any, api: str, mode: Mode, seen: Capture) -> None:
    answer(mode, "openai", jsonl([{**LINES["openai"][0], "response": {"status_code": 200, "body": found}}]))
    await mode.wait(mode.openai().files.content("file-out"))
    call = the_record(seen)
    assert (call.api, call.usage and call.usage.input_tokens) == (api, 30)


async def test_invalid_batch_line_affects_no_other_line(sdk: str, mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """Empty ones and such as are no JSON neither; the last one needs no line end, and all get to the caller."""
    first, last = (json.dumps({**LINES[sdk][0], "custom_id": name}) for name in ("first", "l\u00e4st"))
    odd = [text for line in spoiled(LINES[sdk][0]) for text in (json.dumps(line), "", "no JSON")]
    raw = "\r\n".join([first, *odd, last]).encode()
    with capture(content="metadata") as seen:
        answer(mode, sdk, raw)
        assert (await fetched(mode, sdk, sdks.http_of(sdk).Response)).content == raw
        assert caplog.messages == []
    calls = {call.custom_id: call for call in seen.records}
    for call in (calls["first"], calls["l\u00e4st"]):
        assert (call.outcome, call.usage and call.usage.total_tokens) == ("success", 35)
    assert b"One." not in b"".join(map(encode, seen.everything))


OK: Final = LINES["openai"][0]
FAILED: Final = {**OK, "response": None, "error": {"code": "server_error", "message": "No."}}
ANSWERED: Final = ("success", "One.", 35)
ODD: Final[dict[str, tuple[str, Any, list[tuple[str, str | None, int | None]]]]] = {
    # whose results, their lines, and what each call has: outcome, text, tokens
    "repeated ids": ("openai", [OK, OK, FAILED], [ANSWERED, ANSWERED, ("error", None, None)]),
    "repeated ids of messages": (
        "anthropic", [SUCCEEDED, {"custom_id": "a", "result": {"type": "expired"}}, SUCCEEDED],
        [ANSWERED, ("timeout", None, None), ANSWERED],
    ),
    "a broken line first": ("openai", b'{"custom_id": "x", "resp\n' + jsonl([OK]), [ANSWERED]),
    "a resumed download": ("openai", jsonl([OK, {**OK, "custom_id": "b"}])[30:], [ANSWERED]),
    "a resumed download of messages": ("anthropic", jsonl([SUCCEEDED, SUCCEEDED])[30:], [ANSWERED]),
    "a download that is cut": ("openai", jsonl([OK, {**OK, "custom_id": "b"}])[:-9], [ANSWERED]),
    "an id that is a number first": ("openai", [{**OK, "custom_id": 5}, OK], [ANSWERED]),
    "an id that is null first": ("anthropic", [{**SUCCEEDED, "custom_id": None}, SUCCEEDED], [ANSWERED]),
    "neither answer nor error first": (
        "openai", [{"custom_id": "z", "response": None, "error": None}, OK], [("error", None, None), ANSWERED]
    ),
    "an error beside an answer": ("openai", [{**OK, "error": {"message": "!"}}], [("error", "One.", 35)]),
    "an error beside an empty answer": (
        "openai", [{**FAILED, "response": {"status_code": 500, "request_id": "", "body": {}}}], [("error", None, None)]
    ),
    "a status as text": (
        "openai", [{**OK, "response": {"status_code": "400", "body": {"error": {"message": "No."}}}}],
        [("error", None, None)],
    ),
    "a body that is no object": (
        "openai", [{**OK, "response": {"status_code": 429, "body": "no"}}], [("error", None, None)]
    ),
    "a failed response": (
        "openai",
        [{**OK, "response": {"status_code": 200, "body": {
            "object": "response", "status": "failed", "error": {"code": "server_error", "message": "No."}, "output": [],
        }}}],
        [("error", None, None)],
    ),
    "a cancelled batch": (
        "openai", [OK, {**FAILED, "custom_id": "b", "error": {"code": "batch_cancelled", "message": "No."}}],
        [ANSWERED, ("cancelled", None, None)],
    ),
    "an expired batch": (
        "openai", [{**FAILED, "error": {"code": "batch_expired", "message": "No."}}], [("timeout", None, None)]
    ),
    "an error that is not said": (
        "anthropic", [{"custom_id": "q", "result": {"type": "errored"}}, {"custom_id": "r", "result": None}, SUCCEEDED],
        [("error", None, None), ("error", None, None), ANSWERED],
    ),
    "a mark of the byte order": ("anthropic", b"\xef\xbb\xbf" + jsonl([SUCCEEDED]), [ANSWERED]),
    "empty lines first": ("anthropic", b"\n\n\r\n" + jsonl([SUCCEEDED]), [ANSWERED]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_odd_batch_lines_are_one_call_each_however_often_read(name: str, mode: Mode, seen: Capture) -> None:
    sdk, lines, calls = ODD[name]
    answer(mode, sdk, lines if isinstance(lines, bytes) else jsonl(lines))
    for _ in range(2):
        await fetched(mode, sdk, str)
    records = [one for one in seen.everything if isinstance(one, CallRecord)]
    assert [(one.outcome, one.text, one.usage and one.usage.total_tokens) for one in records] == calls
    assert len({one.call_id for one in records}) == len(calls)


async def test_file_of_other_lines_is_given_up(mode: Mode, seen: Capture) -> None:
    answer(mode, "openai", b'{"row": 1}\n' * 8 + jsonl([OK]))
    await fetched(mode, "openai", str)
    assert seen.everything == []


async def test_same_response_id_at_two_times_is_two_calls(mode: Mode, seen: Capture) -> None:
    """A server may repeat its ids: each answer stays with its own request."""
    for created in (1760000000, 1760000100):
        body = {"id": "resp_1", "object": "response", "created_at": created, "model": "m", "background": True}
        mode.provider.reply(raw={**body, "status": "queued", "output": []}, on="/responses")
        await mode.wait(mode.openai().responses.create(model="m", input="Hi", background=True))
        usage = {"input_tokens": created % 1000 + 1, "output_tokens": 1, "total_tokens": created % 1000 + 2}
        mode.provider.reply(raw={**body, "status": "completed", "output": [], "usage": usage}, on="/responses/resp_1")
        await mode.wait(mode.openai().responses.retrieve("resp_1"))
    assert [record.usage and record.usage.input_tokens for record in seen.records] == [1, 101]
    assert len({record.call_id for record in seen.records}) == 2
