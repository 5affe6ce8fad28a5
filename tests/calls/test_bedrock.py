"""Bedrock by boto3 and aiobotocore: one span and one record for each call of a model, by every operation and ending."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import wrapt
from tests.conftest import Instrument
from tests.support.calls import End, body_returned, body_sent, caught, everywhere, the_call, usage_of
from tests.support.left_behind import unrecorded
from tests.support.mode import Mode
from tests.support.spans_of_records import differences
from tests.support.waiting import HANG_MS, HANG_S

import callspan
from callspan.testing import Capture, ScriptedProvider, capture

from .bedrock_clients import ASK, KEY, LLAMA, NOVA, QUESTION, SECRET, TOKEN, client_of, keys

boto3: Any = pytest.importorskip("boto3", reason="boto3 is not installed")
config: Any = pytest.importorskip("botocore.config")
response: Any = pytest.importorskip("botocore.response")

pytestmark = pytest.mark.usefixtures("no_settings", "keys")
__all__ = ["keys"]
CLAUDE: Final = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
COUNTS: Final[dict[str, Any]] = {
    "text": "I am quite well.", "reasoning": "Hm, well.", "input_tokens": 20, "output_tokens": 9,
    "cache_read_tokens": 4, "cache_write_tokens": 6,
}  # fmt: skip
COUNTED: Final = (20, 9, 29, 4, 6)
IS_OLD: Final = tuple(map(int, metadata.version("botocore").split(".")[:2])) < (1, 41)
"""Whether botocore leaves out of an answer, or refuses in a request, fields that these tests state."""
needs_all_fields = pytest.mark.skipif(IS_OLD, reason="botocore before 1.41 leaves fields out")


async def answered(mode: Mode, client: Any = None, **given: Any) -> Any:
    return await mode.wait((client or await client_of(mode)).converse(**{**ASK, **given}))


async def streamed(mode: Mode, client: Any = None, **given: Any) -> Any:
    answer = await mode.wait((client or await client_of(mode)).converse_stream(**{**ASK, **given}))
    return answer["stream"]


def counted(record: Any) -> tuple[int | None, ...]:
    usage = usage_of(record)
    return (
        usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cache_read_tokens, usage.cache_write_tokens
    )  # fmt: skip


@needs_all_fields
async def test_plain_call_is_one_span_and_one_record(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    inference = {"temperature": 0.5, "maxTokens": 64, "topP": 0.9, "stopSequences": ["!"]}
    answer = await answered(mode, inferenceConfig=inference, system=[{"text": "Be brief."}])
    record = the_call(seen)
    assert answer["output"]["message"]["content"][-1]["text"] == record.text == "I am quite well."
    assert (record.api, record.operation, record.provider) == ("converse", "chat", "aws.bedrock")
    sdk = "aiobotocore" if mode.is_async else "boto3"
    assert record.sdk == f"{sdk}/{metadata.version(sdk)}"
    assert (record.outcome, record.retries, [one.status for one in record.attempts]) == ("success", 0, [200])
    assert record.attempts[0].request_id == answer["ResponseMetadata"]["RequestId"]
    assert (record.request.model, record.request.message_count) == (NOVA, 1)
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.truncated) == (["end_turn"], False)
    assert (counted(record), usage_of(record).estimated) == (COUNTED, False)
    assert record.server_address == "127.0.0.1"
    attributes = seen.spans[0].attributes or {}
    assert seen.spans[0].name == f"chat {NOVA}"
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.max_tokens"]) == ("aws.bedrock", 64)
    assert (attributes["gen_ai.request.top_p"], attributes["gen_ai.request.stop_sequences"]) == (0.9, ("!",))


async def test_request_is_recorded_as_sent_and_the_answer_as_received(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(**COUNTS)
    answer = await answered(mode)
    record = the_call(seen)
    assert bytes(record.request.body) == mode.provider.requests[0].content
    assert body_returned(record) == {key: value for key, value in answer.items() if key != "ResponseMetadata"}


async def test_keys_and_signatures_are_nowhere(mode: Mode, stream: bool, seen: Capture) -> None:
    client = await client_of(mode)
    message = f"The Credential={KEY}/20261129/us-east-1/bedrock/aws4_request is not known"
    mode.provider.reply(status=403, message=message, error_type="InvalidSignatureException")
    assert await caught(streamed(mode, client) if stream else answered(mode, client))
    if stream:
        await mode.all(await streamed(mode, client))
    else:
        await answered(mode, client)
    (authorization,) = {one.headers["authorization"].partition("Signature=")[2] for one in mode.provider.requests[:1]}
    text = everywhere(seen)
    assert [canary for canary in (KEY, SECRET, TOKEN, authorization, "AWS4-HMAC") if canary in text] == []


async def read_all(mode: Mode, stream: Any) -> None:
    await mode.all(stream)


async def read_to(mode: Mode, stream: Any, text: str) -> None:
    """Read up to a piece of the text, and leave the loop."""
    async for event in mode.items(stream):
        if event.get("contentBlockDelta", {}).get("delta", {}).get("text", "").strip() == text:
            break


async def leave(mode: Mode, stream: Any) -> None:
    await read_to(mode, stream, "am")


async def close_early(mode: Mode, stream: Any) -> None:
    await read_to(mode, stream, "am")
    await mode.wait(stream.close())


async def close_at_the_end(mode: Mode, stream: Any) -> None:
    await mode.all(stream)
    await mode.wait(stream.close())


async def close_after_the_stop(mode: Mode, stream: Any) -> None:
    """Close before the last event, which has the usage."""
    async for event in mode.items(stream):
        if "messageStop" in event:
            break
    await mode.wait(stream.close())


async def never_read(mode: Mode, stream: Any) -> None:
    del mode, stream


async def leave_and_continue(mode: Mode, stream: Any) -> None:
    await read_to(mode, stream, "am")
    await mode.all(stream)


LEFT: Final = {"outcome": "cancelled", "end": "closed", "text": "I am", "complete": False}
BROKEN: Final = {"outcome": "error", "end": "error", "text": "I am", "complete": False}
ENDS: dict[str, End] = {
    "read to its end": End(read_all),
    "read and closed": End(close_at_the_end),
    "left after two words": End(leave, **LEFT),  # type: ignore[arg-type]
    "left and read on": End(leave_and_continue),
    "closed after two words": End(close_early, **LEFT),  # type: ignore[arg-type]
    "closed before the usage": End(close_after_the_stop, end="closed"),
    "never read": End(never_read, outcome="cancelled", end="closed", text="", complete=False),
    "cut by the server": End(read_all, {"cut_after": 7}, **BROKEN, kind="connection"),  # type: ignore[arg-type]
    "an exception event": End(
        read_all, {"error_after": 7, "error_type": "throttlingException"}, **BROKEN, kind="rate_limit",  # type: ignore[arg-type]
    ),
    "a failure of the model": End(
        read_all, {"error_after": 7, "error_type": "modelStreamErrorException"}, **BROKEN, kind="server",  # type: ignore[arg-type]
    ),
    "a wrong checksum": End(
        read_all, {"malformed": True}, outcome="error", end="error", text="", complete=False, kind="parsing",
    ),
    "ended before the stop": End(
        read_all, {"end_after": 7}, outcome="success", end="cut_off", text="I am", complete=False,
    ),
    "stalled": End(
        read_all, {"chunk_delay_s": HANG_S}, outcome="timeout", end="error", text="", complete=False, kind="timeout",
    ),
}  # fmt: skip
"""The seventh event has the second word."""


@pytest.mark.parametrize("name", ENDS)
async def test_stream_endings(name: str, mode: Mode, seen: Capture) -> None:
    row = ENDS[name]
    mode.provider.reply(**COUNTS, **row.reply)
    # Long enough for the head of the answer on a loaded machine.
    stream = await streamed(mode, await client_of(mode, read_timeout=3 if name == "stalled" else HANG_S))
    with suppress(Exception):
        await row.act(mode, stream)
    del stream
    await mode.collect()
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.complete) == (row.outcome, row.end, row.complete)
    assert (record.text or "") == row.text
    assert record.error is None if row.kind is None else record.error is not None and record.error.kind == row.kind
    if row.end == "complete":
        assert counted(record) == COUNTED
        assert record.stream.chunks == 12
        assert record.timing.first_token_ns is not None
    else:
        assert record.usage is None


async def test_stream_keeps_type_laziness_and_events(mode: Mode) -> None:
    async def run() -> tuple[type, list[Any], int]:
        mode.provider.reply(**COUNTS, chunk_delay_s=0.002)
        stream = await streamed(mode)
        return type(stream), await mode.all(stream), len(vars(stream))

    plain = await run()
    with capture():
        observed = await run()
    assert observed == plain


async def test_first_event_is_not_awaited(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="a b", first_token_delay_s=0.5)
    stream = await streamed(mode)
    assert seen.spans == []
    started = [record for record in seen.everything if getattr(record, "part", None) == "ended"]
    assert started == []
    await mode.all(stream)
    assert the_call(seen).timing.first_token_ns is not None


async def test_interrupted_stream_of_a_task(provider: ScriptedProvider, seen: Capture) -> None:
    mode = Mode("async", provider)
    provider.reply(text="a b", first_token_delay_s=HANG_S)
    stream = await streamed(mode)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(mode.all(stream), 0.2)
    assert the_call(seen).outcome in ("cancelled", "timeout")
    await mode.close()


@pytest.mark.parametrize("strategy", ["legacy", "standard"])
async def test_retries_are_attempts_of_one_call(strategy: str, mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(status=503)
    mode.provider.reply(status=429)
    mode.provider.reply(**COUNTS)
    client = await client_of(mode, retries={"mode": strategy, "total_max_attempts": 3})
    if stream:
        await mode.all(await streamed(mode, client))
    else:
        await answered(mode, client)
    record = the_call(seen)
    assert (record.outcome, record.retries, record.rate_limited) == ("success", 2, True)
    assert [(one.status, one.error_kind, one.error_type) for one in record.attempts] == [
        (503, "overloaded", "ServiceUnavailableException"), (429, "rate_limit", "ThrottlingException"),
        (200, None, None),
    ]  # fmt: skip


ERRORS: Final = {
    (400, "ValidationException"): "bad_input",
    (403, "AccessDeniedException"): "permission",
    (403, "ExpiredTokenException"): "auth",
    (403, "InvalidSignatureException"): "auth",
    (404, "ResourceNotFoundException"): "not_found",
    (400, "ServiceQuotaExceededException"): "quota",
    (408, "ModelTimeoutException"): "timeout",
    (424, "ModelErrorException"): "server",
    (429, "ThrottlingException"): "rate_limit",
    (429, "ModelNotReadyException"): "overloaded",
    (500, "InternalServerException"): "server",
    (503, "ServiceUnavailableException"): "overloaded",
}


@pytest.mark.parametrize(("status", "code"), ERRORS)
async def test_errors_by_their_code(status: int, code: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=status, message="No.", headers={"x-amzn-errortype": code})
    error: Any = await caught(answered(mode))
    record = the_call(seen)
    assert record.error is not None
    assert (record.error.kind, record.error.status, record.error.type) == (ERRORS[status, code], status, code)
    assert (record.error.message, record.error.request_id) == ("No.", error.response["ResponseMetadata"]["RequestId"])
    assert record.error.exception == f"{type(error).__module__}.{type(error).__qualname__}"
    assert [one.status for one in record.attempts] == [status]


async def test_error_with_nul_is_the_same_on_span_and_record(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw=b'{"message": "a\\u0000b"}', status=400)
    error: Any = await caught(answered(mode))
    assert error.response["Error"]["Message"] == "a\0b"
    record = the_call(seen)
    assert record.error is not None
    assert record.error.message == "a\ufffdb"
    assert list(differences(seen.spans, seen.records)) == []


async def test_failures_without_an_answer(mode: Mode, seen: Capture) -> None:
    unreachable = await client_of(mode)
    unreachable.meta.events.register_first("before-send", raise_connection_error)
    assert await caught(answered(mode, unreachable))
    mode.provider.reply(hang=True)
    assert await caught(answered(mode, await client_of(mode, read_timeout=0.3)))
    assert await caught(answered(mode, messages="none"))
    refused, late, invalid = (record.error for record in seen.records)
    assert [error and error.kind for error in (refused, late, invalid)] == ["connection", "timeout", "bad_input"]
    assert [record.outcome for record in seen.records] == ["error", "timeout", "error"]
    assert [len(record.attempts) for record in seen.records] == [1, 1, 0]
    assert body_sent(seen.records[2]) == {"messages": "none"}


async def test_parameters_that_are_no_json_are_shown_as_recorded(mode: Mode, seen: Capture) -> None:
    question = [{"role": "user", "content": [{"text": object()}]}]
    assert await caught(answered(mode, messages=question))
    assert list(differences(seen.spans, seen.records)) == []
    assert "<object object" in str(body_sent(the_call(seen)))


def raise_connection_error(**_: Any) -> None:
    raise pytest.importorskip("botocore.exceptions").EndpointConnectionError(endpoint_url="http://nowhere")


async def test_tools_and_media_are_typed(mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(text="Let me see.", tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}])
    image = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
    content = [
        {"text": "What is this?"},
        {"image": {"format": "png", "source": {"bytes": image}}},
        {"document": {"format": "pdf", "name": "a", "source": {"bytes": b"%PDF-1.7 of a test, long enough"}}},
    ]
    result = {"toolUseId": "t1", "content": [{"json": {"sunny": True}}], "status": "error"}
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {"x": 1}}}]},
        {"role": "user", "content": [{"toolResult": result}]},
    ]
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [{"toolSpec": {"name": "get_weather", "description": "Weather.", "inputSchema": {"json": schema}}}]
    given = {"messages": messages, "toolConfig": {"tools": tools, "toolChoice": {"auto": {}}}}
    if stream:
        await mode.all(await streamed(mode, **given))
    else:
        await answered(mode, **given)
    record, conversation = the_call(seen), the_call(seen).conversation
    assert conversation is not None
    kinds = [[type(part).__name__ for part in message.parts] for message in conversation.input]
    assert kinds == [["Text", "Media", "Media"], ["ToolCall"], ["ToolResult"]]
    assert [message.role for message in conversation.input] == ["user", "assistant", "tool"]
    picture, document = conversation.input[0].parts[1:]
    assert (picture.modality, picture.mime, picture.size) == ("image", "image/png", len(image))  # type: ignore[union-attr]
    assert (document.modality, document.mime) == ("document", "application/pdf")  # type: ignore[union-attr]
    answer: Any = conversation.input[2].parts[0]
    assert (answer.id, answer.content, answer.is_error) == ("t1", {"sunny": True}, True)
    (call,) = conversation.output[0].tool_calls
    assert (call.name, json.loads(call.arguments or ""), call.incomplete) == ("get_weather", {"city": "Paris"}, False)
    assert conversation.tools == [{"name": "get_weather", "description": "Weather.", "input_schema": schema}]
    assert (record.request.tool_names, record.request.params["tool_choice"]) == (["get_weather"], "auto")
    assert base64.b64encode(image).decode() not in bytes(record.request.body).decode()


@needs_all_fields
async def test_bytes_of_an_answer_are_base64_in_the_record(mode: Mode, seen: Capture) -> None:
    secret = b"\x00\xffthought"
    thought = {"reasoningContent": {"redactedContent": base64.b64encode(secret).decode()}}
    message = {"role": "assistant", "content": [thought, {"text": "Well."}]}
    usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    mode.provider.reply(raw={"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {}})
    answer = await answered(mode)
    assert answer["output"]["message"]["content"][0]["reasoningContent"]["redactedContent"] == secret
    record = the_call(seen)
    assert body_returned(record)["output"]["message"] == message
    assert (record.text, counted(record)[:2]) == ("Well.", (3, 2))


async def test_operations_without_a_record_are_counted(mode: Mode, store: str, instrumented: Instrument) -> None:
    handle = instrumented(stores=store)
    client = await client_of(mode)
    mode.provider.reply(raw={"action": "NONE", "outputs": [], "assessments": []}, on="/apply")
    content = [{"text": {"text": "Hi"}}]
    given = {"guardrailIdentifier": "abc", "guardrailVersion": "1", "source": "INPUT", "content": content}
    with suppress(Exception):
        await mode.wait(client.apply_guardrail(**given))
    handle.force_flush(HANG_MS)
    callspan.uninstrument()
    assert unrecorded(store) == {"bedrock-runtime ApplyGuardrail": 1}


async def test_tool_call_of_a_cut_stream_is_incomplete(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(
        text=None, tool_calls=[{"name": "f", "arguments": {"city": "a long name of a city"}}], end_after=3
    )
    await mode.all(await streamed(mode))
    (message,) = (the_call(seen).conversation or pytest.fail()).output
    (call,) = message.tool_calls
    assert (call.name, call.incomplete) == ("f", True)


async def test_intervening_guardrail_is_a_refusal(mode: Mode, stream: bool, seen: Capture) -> None:
    mode.provider.reply(text="I cannot say.", finish_reason="guardrail_intervened")
    guardrail = {"guardrailIdentifier": "abc", "guardrailVersion": "1"}
    if stream:
        await mode.all(await streamed(mode, guardrailConfig={**guardrail, "streamProcessingMode": "sync"}))
    else:
        await answered(mode, guardrailConfig=guardrail)
    record = the_call(seen)
    assert record.response is not None
    assert (record.outcome, record.response.refused) == ("success", True)
    assert record.response.finish_reasons == ["guardrail_intervened"]


BODIES: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "Anthropic": (CLAUDE, {"anthropic_version": "bedrock-2023-05-31", "messages": QUESTION}, "messages"),
    "Nova": (NOVA, {"schemaVersion": "messages-v1", "messages": QUESTION}, "converse"),
    "Llama": (LLAMA, {"prompt": "How are you?", "max_gen_len": 64}, "invoke_model"),
}  # fmt: skip
"""Model, body and API of each vendor that the scripted provider speaks for."""


async def invoked(mode: Mode, vendor: str, *, stream: bool = False, client: Any = None) -> Any:
    model, body, _ = BODIES[vendor]
    client = client or await client_of(mode)
    operation = client.invoke_model_with_response_stream if stream else client.invoke_model
    return await mode.wait(operation(modelId=model, body=json.dumps(body)))


@pytest.mark.parametrize("vendor", BODIES)
async def test_invoked_models(vendor: str, mode: Mode, stream: bool, seen: Capture) -> None:
    reply = {name: COUNTS[name] for name in ("text", "input_tokens", "output_tokens")}
    mode.provider.reply(**reply)
    answer = await invoked(mode, vendor, stream=stream)
    if stream:
        events = await mode.all(answer["body"])
        assert {next(iter(event)) for event in events} == {"chunk"}
    else:
        received = await mode.wait(answer["body"].read())
        assert json.loads(received) == body_returned(the_call(seen))
    record = the_call(seen)
    model, body, api = BODIES[vendor]
    assert (record.api, record.provider, record.request.model) == (api, "aws.bedrock", model)
    assert (record.outcome, record.text) == ("success", "I am quite well.")
    assert counted(record)[:3] == COUNTED[:3]
    assert record.stream is None or (record.stream.end, record.stream.complete) == ("complete", True)
    assert body_sent(record) == body
    assert (record.timing.server_ns is None) == stream


IN_HEADERS: Final[dict[str, tuple[dict[str, str], dict[str, str], dict[str, Any]]]] = {
    # What boto3 takes, the header that it makes of it, and the parameter that Converse has in its body.
    "latency": (
        {"performanceConfigLatency": "optimized"}, {"X-Amzn-Bedrock-PerformanceConfig-Latency": "optimized"},
        {"performance_config": {"latency": "optimized"}},
    ),
    "tier": ({"serviceTier": "flex"}, {"X-Amzn-Bedrock-Service-Tier": "flex"}, {"service_tier": "flex"}),
    "guardrail": (
        {"guardrailIdentifier": "g", "guardrailVersion": "1"},
        {"X-Amzn-Bedrock-GuardrailIdentifier": "g", "X-Amzn-Bedrock-GuardrailVersion": "1"},
        {"guardrail_config": {"guardrailIdentifier": "g", "guardrailVersion": "1"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("client", [pytest.param("boto3", marks=needs_all_fields), "httpx"])
@pytest.mark.parametrize("name", IN_HEADERS)
async def test_setting_in_a_header_is_a_parameter(name: str, client: str, mode: Mode, stream: bool) -> None:
    """A latency, a tier and a guardrail have their own prices, and the body of an invoked model does not state them."""
    given, headers, params = IN_HEADERS[name]
    model, body, _ = BODIES["Anthropic"]
    mode.provider.reply(text="Well.")
    with capture(http=True) as seen:
        if client == "boto3":
            opened = await client_of(mode)
            ask = opened.invoke_model_with_response_stream if stream else opened.invoke_model
            answer = await mode.wait(ask(modelId=model, body=json.dumps(body), **given))
            await (mode.all(answer["body"]) if stream else mode.wait(answer["body"].read()))
        else:
            verb = "invoke-with-response-stream" if stream else "invoke"
            url = f"{mode.provider.bedrock_url}/model/{model}/{verb}"
            with httpx.Client() as http:
                http.post(url, json=body, headers=headers)  # noqa: ASYNC212 - a client without a loop
    record = the_call(seen)
    assert params.items() <= record.request.params.items()
    assert body_sent(record) == body


COUNT: Final = "x-amzn-bedrock-{}-token-count"
PROFILE: Final = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"


async def test_counts_of_the_headers_where_the_body_has_none(mode: Mode, seen: Capture) -> None:
    headers = {COUNT.format("input"): "10", COUNT.format("output"): "9", COUNT.format("cache-read-input"): "4"}
    body = {"outputs": [{"text": "Well.", "stop_reason": "length"}]}
    mode.provider.reply(raw=body, headers={**headers, COUNT.format("cache-write-input"): "6"})
    answer = await invoked(mode, "Llama")
    await mode.wait(answer["body"].read())
    record = the_call(seen)
    assert (counted(record), record.text) == (COUNTED, "Well.")
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.truncated) == (["length"], True)


async def test_counts_of_the_headers_that_the_body_leaves_out(mode: Mode, seen: Capture) -> None:
    """A guardrail that masks an answer takes the output tokens out of the body."""
    body = {"output": {"message": {"role": "assistant", "content": [{"text": "Well."}]}}, "stopReason": "end_turn"}
    headers = {COUNT.format("input"): "30", COUNT.format("output"): "51"}
    mode.provider.reply(raw={**body, "usage": {"inputTokens": 30}}, headers=headers)
    answer = await invoked(mode, "Nova")
    await mode.wait(answer["body"].read())
    assert (counted(the_call(seen))[:3], the_call(seen).text) == ((30, 51, 81), "Well.")


async def test_embedding_by_a_profile_that_names_no_model(mode: Mode, seen: Capture) -> None:
    vectors = {"embedding": [0.1], "embeddingsByType": {"float": [0.1]}, "inputTextTokenCount": 5}
    for body in ({"inputText": "Hi", "normalize": True}, {"inputText": "Hi"}):
        mode.provider.reply(raw=vectors)
        client = await client_of(mode)
        answer = await mode.wait(client.invoke_model(modelId=PROFILE, body=json.dumps(body)))
        await mode.wait(answer["body"].read())
    told, untold = seen.records
    assert (told.api, untold.api) == ("invoke_embeddings", "invoke_model")
    for record in (told, untold):
        assert record.response is not None
        assert (record.response.unrecognized, usage_of(record).input_tokens) == (False, 5)


PICTURE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n".ljust(6000, b"a")).decode()
PICTURES: Final[dict[str, tuple[Any, Any]]] = {
    "nova": ({"taskType": "TEXT_IMAGE", "textToImageParams": {"text": "A cat"}}, {"images": [PICTURE]}),
    "titan": ({"taskType": "IMAGE_VARIATION", "imageVariationParams": {"text": "A cat", "images": [PICTURE]}},
              {"images": [PICTURE], "error": None}),
    "stability": ({"prompt": "A cat", "image": PICTURE}, {"seeds": [1], "finish_reasons": [None], "images": [PICTURE]}),
    "sdxl": ({"text_prompts": [{"text": "A cat", "weight": 1}]},
             {"result": "success", "artifacts": [{"base64": PICTURE, "finishReason": "SUCCESS"}]}),
}  # fmt: skip


@pytest.mark.parametrize("kept", ["inline", "reference"])
@pytest.mark.parametrize("vendor", PICTURES)
async def test_pictures_are_typed_and_kept_by_reference(vendor: str, kept: Any, mode: Mode) -> None:
    body, answer = PICTURES[vendor]
    mode.provider.reply(raw=answer)
    with capture(media=kept) as seen:
        returned = await mode.wait((await client_of(mode)).invoke_model(modelId=PROFILE, body=json.dumps(body)))
        assert json.loads(await mode.wait(returned["body"].read())) == answer
    record: Any = the_call(seen)
    assert record.response.unrecognized is False
    ((picture,),) = (message.parts for message in record.conversation.output)
    assert (picture.modality, picture.mime, picture.size) == ("image", "image/png", 6000)
    assert [message.text for message in record.conversation.input] == ["A cat"]
    assert (PICTURE in everywhere(seen)) is (kept == "inline")


async def read_at_once(mode: Mode, body: Any) -> bytes:
    return bytes(await mode.wait(body.read()))


async def read_in_pieces(mode: Mode, body: Any) -> bytes:
    pieces = []
    while piece := await mode.wait(body.read(7)):
        pieces.append(piece)
    return b"".join(pieces)


async def read_lines(mode: Mode, body: Any) -> bytes:
    return b"".join(await mode.wait(body.readlines()))


async def iterate(mode: Mode, body: Any) -> bytes:
    return b"".join([piece async for piece in mode.items(body.iter_chunks(5))])


async def read_into(mode: Mode, body: Any) -> bytes:
    if not hasattr(body, "readinto"):
        pytest.skip("this version has no readinto")
    buffer = bytearray(4096)
    size = await mode.wait(body.readinto(buffer))
    return bytes(buffer[:size])


async def read_in_a_block(mode: Mode, body: Any) -> bytes:
    async with mode.entered(body) as inner:
        return bytes(await mode.wait(inner.read()))


WAYS: Final = {
    "at once": read_at_once,
    "in pieces": read_in_pieces,
    "by lines": read_lines,
    "iterated": iterate,
    "into a buffer": read_into,
    "in a block": read_in_a_block,
}


@pytest.mark.parametrize("way", WAYS)
async def test_body_is_read_by_the_application_alone(way: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="I am well.", input_tokens=3)
    answer = await invoked(mode, "Llama")
    assert (seen.records, answer["body"].tell()) == ([], 0)
    received = await WAYS[way](mode, answer["body"])
    record = the_call(seen)
    assert json.loads(received) == body_returned(record)
    assert (record.outcome, record.text, usage_of(record).input_tokens) == ("success", "I am well.", 3)


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "beside the first"])
@pytest.mark.parametrize("act", ["read", "read in pieces", "dropped"])
async def test_body_that_another_instrumentation_replaces(act: str, kept: bool, mode: Mode, seen: Capture) -> None:
    """It makes a body of its own of the stream inside, which nothing else reads."""
    mode.provider.reply(text="I am well.", input_tokens=3, output_tokens=2)
    answer = await invoked(mode, "Llama")
    if mode.is_async:
        pytest.skip("nobody replaces an async body")
    first = answer["body"]
    answer["body"] = type(first)(first._raw_stream, first._content_length)
    if not kept:
        del first
    if act == "dropped":
        first = answer = None
        await mode.collect()
        assert the_call(seen).outcome == "cancelled"
        return
    received = await (read_at_once if act == "read" else read_in_pieces)(mode, answer["body"])
    record = the_call(seen)
    assert json.loads(received) == body_returned(record)
    assert (record.outcome, record.text, usage_of(record).input_tokens) == ("success", "I am well.", 3)


@pytest.mark.parametrize("act", ["dropped", "closed"])
async def test_body_that_is_not_read_has_the_counts_of_its_headers(act: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(input_tokens=3, output_tokens=2)
    answer = await invoked(mode, "Llama")
    if act == "closed":
        await mode.wait(answer["body"].close())
    del answer
    await mode.collect()
    record = the_call(seen)
    assert (record.outcome, record.text, counted(record)[:3]) == ("cancelled", None, (3, 2, 5))


async def test_body_that_is_cut(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="I am well.", body_cut=True)
    answer = await invoked(mode, "Llama")
    error = await caught(read_at_once(mode, answer["body"]))
    record = the_call(seen)
    assert error is not None
    assert record.error is not None
    assert (record.outcome, record.error.kind) == ("error", "connection")


async def test_bodies_of_other_services_are_left_alone(seen: Capture) -> None:
    body_class = pytest.importorskip("botocore.response").StreamingBody
    body = body_class(io.BytesIO(b"some bytes"), 10)
    assert (body.read(), seen.records) == (b"some bytes", [])


async def test_stubbed_answer_is_recorded(provider: ScriptedProvider, seen: Capture) -> None:
    stubber = pytest.importorskip("botocore.stub").Stubber
    client = await client_of(Mode("sync", provider))
    body = pytest.importorskip("botocore.response").StreamingBody(
        io.BytesIO(b'{"generation": "Hi", "stop_reason": "stop"}'), 42
    )
    with stubber(client) as stubbed:
        stubbed.add_response("invoke_model", {"body": body, "contentType": "application/json"})
        answer = client.invoke_model(modelId=LLAMA, body=b'{"prompt": "Hi"}')
        with answer["body"] as inner:
            assert json.load(inner)["generation"] == "Hi"
    record = the_call(seen)
    assert (record.outcome, record.attempts, body_sent(record)) == ("success", [], {"prompt": "Hi"})


async def test_client_created_before_instrument_is_recorded(mode: Mode) -> None:
    client = await client_of(mode)
    mode.provider.reply(**COUNTS)
    before = await answered(mode, client)
    mode.provider.reply(**COUNTS)
    with capture() as seen:
        recorded = await answered(mode, client)
    assert the_call(seen).outcome == "success"
    first, second = ({key: answer[key] for key in ("output", "usage", "stopReason")} for answer in (before, recorded))
    assert first == second


async def test_session_and_content_level(mode: Mode, seen: Capture) -> None:
    client = await client_of(mode)
    with callspan.session("trip"), callspan.content("metadata"):
        await answered(mode, client)
    (record,) = seen.records
    assert (record.place.session_name, record.content_level, bytes(record.request.body)) == ("trip", "metadata", b"")
    assert usage_of(record).input_tokens == 12


@pytest.mark.parametrize("sdks", ["bedrock", "openai"])
async def test_only_named_sdks_are_recorded(sdks: str, mode: Mode, instrumented: Instrument, tmp_path: Path) -> None:
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", sdks=sdks)
    await answered(mode)
    handle.force_flush(HANG_MS)
    calls = tmp_path / "calls.jsonl"
    assert (calls.exists() and "aws.bedrock" in calls.read_text()) == (sdks == "bedrock")


async def test_unread_streams_leave_nothing_behind(mode: Mode, seen: Capture) -> None:
    client = await client_of(mode)
    for _ in range(3):
        stream = await streamed(mode, client)
        del stream
    await mode.collect()
    gc.collect()
    assert [record.outcome for record in seen.records] == ["cancelled"] * 3


class Proxy(wrapt.ObjectProxy):  # type: ignore[misc] # not typed
    """Iterates by itself, as the proxies of OpenTelemetry's instrumentation and of ddtrace do."""

    def __iter__(self) -> Any:
        yield from self.__wrapped__

    async def __aiter__(self) -> Any:
        async for item in self.__wrapped__:
            yield item


class Plain:
    """Stands for a stream without being one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Any:
        return iter(self.inner)

    def __aiter__(self) -> Any:
        return aiter(self.inner)

    def read(self) -> Any:
        return self.inner.read()


def read_and_replaced(source: Any) -> Any:
    """Read a body, and give the application another one, as OpenTelemetry's instrumentation does."""
    if not hasattr(source, "read"):
        return Proxy(source)
    content = source.read()
    return response.StreamingBody(io.BytesIO(content), len(content))


def traced(base: Any, member: str, wrapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what tracers do around the function of botocore that sends an operation."""
    original = base._make_api_call

    def sync(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        return {**answer, member: wrapped(answer[member])}

    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        answer = await original(*args, **kwargs)
        return {**answer, member: wrapped(answer[member])}

    monkeypatch.setattr(base, "_make_api_call", asynchronous if asyncio.iscoroutinefunction(original) else sync)


OPERATIONS: Final = {"converse_stream": "stream", "invoke_model_with_response_stream": "body", "invoke_model": "body"}


@needs_all_fields
@pytest.mark.parametrize("order", ["theirs first", "ours first"])
@pytest.mark.parametrize("wrapped", [Proxy, Plain, read_and_replaced])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_another_tracer_wraps_is_recorded_whole(
    operation: str, wrapped: Any, order: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, invokes = OPERATIONS[operation], operation != "converse_stream"
    if mode.is_async and wrapped is read_and_replaced:
        pytest.skip("its body is read by a coroutine")
    client = await client_of(mode)
    base = next(kind for kind in type(client).__mro__ if "_make_api_call" in vars(kind))
    mode.provider.reply(**COUNTS)
    if order == "theirs first":
        traced(base, member, wrapped, monkeypatch)
    with capture() as seen:
        if order == "ours first":
            traced(base, member, wrapped, monkeypatch)
        given = {"modelId": NOVA, "body": json.dumps({"messages": QUESTION})} if invokes else ASK
        source = (await mode.wait(getattr(client, operation)(**given)))[member]
        named = callspan.call_id(source) if wrapped is Proxy else None
        await (mode.wait(source.read()) if operation == "invoke_model" else mode.all(source))
        record = the_call(seen)
        monkeypatch.undo()
    assert (record.outcome, record.text, counted(record)) == ("success", "I am quite well.", COUNTED)
    assert record.stream is None or record.stream.end == "complete"
    assert named in (None, record.call_id)
    assert wrapped is not Proxy or named is not None
