"""DashScope's own API, in the shapes of its documents: a request by any HTTP client is a call."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
import pytest

from callspan.records import CallRecord, ToolCall
from callspan.testing import capture

Json = dict[str, Any]
URL: Final = "https://dashscope-intl.aliyuncs.com/api/v1/services/aigc/text-generation/generation"
ASKED: Final[Json] = {
    "model": "qwen-plus",
    "input": {"messages": [{"role": "user", "content": "Hi"}]},
    "parameters": {"result_format": "message", "max_tokens": 64},
}
USAGE: Final = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}

pytestmark = pytest.mark.usefixtures("no_settings")


def asked(body: Json, *answers: Json, status: int = 200) -> CallRecord:
    """The record of a request, whose answer is a stream if there are several."""
    is_stream = len(answers) > 1
    lines = "".join(f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(answer)}\n\n" for answer in answers)
    content = lines if is_stream else json.dumps(answers[0])
    headers = {"content-type": "text/event-stream" if is_stream else "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=iter([content.encode()])))
    with (
        capture() as seen,
        httpx.Client(transport=transport) as client,
        client.stream("POST", URL, json=body) as response,
    ):
        response.read()
    (record,) = seen.records
    assert (record.api, record.provider, record.request.model) == ("dashscope_generation", "alibaba", "qwen-plus")
    assert (record.stream is not None) == is_stream
    return record


def event(text: str, reason: str = "null", **message: Any) -> Json:
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
    return {"output": {"choices": [choice]}, "usage": USAGE, "request_id": "r-1"}


def facts(record: CallRecord) -> tuple[Any, ...]:
    assert record.conversation is not None
    assert record.response is not None
    usage = record.usage
    return (
        [message.text for message in record.conversation.input],
        [message.text for message in record.conversation.output],
        record.response.finish_reasons,
        usage and (usage.input_tokens, usage.output_tokens),
        record.outcome,
    )


SAID: Final = (["Hi"], ["Hello there."], ["stop"], (9, 4), "success")


def test_plain_answer() -> None:
    record = asked(ASKED, event("Hello there.", "stop"))
    assert facts(record) == SAID
    assert (record.request.params["max_tokens"], record.request.message_count) == (64, 1)


@pytest.mark.parametrize(
    "pieces", [["Hello", "Hello there", "Hello there."], ["Hello", " there", "."]], ids=["text so far", "next piece"]
)
def test_stream(pieces: list[str]) -> None:
    *first, last = pieces
    assert facts(asked(ASKED, *map(event, first), event(last, "stop"))) == SAID


def test_pieces_that_repeat_the_text_so_far() -> None:
    record = asked(ASKED, event("ha"), event("haha"), event("!", "stop"))
    assert facts(record)[1] == ["hahaha!"]


def test_text_alone() -> None:
    body = {**ASKED, "input": {"prompt": "Hi"}, "parameters": {}}
    answer = {"output": {"text": "Hello there.", "finish_reason": "stop"}, "usage": USAGE, "request_id": "r-1"}
    assert facts(asked(body, answer)) == SAID


def test_tool_call() -> None:
    call = {"id": "t1", "type": "function", "index": 0, "function": {"name": "add", "arguments": '{"a":2}'}}
    record = asked(ASKED, event("", "tool_calls", tool_calls=[call]))
    assert record.conversation is not None
    (part,) = record.conversation.output[0].parts
    assert isinstance(part, ToolCall)
    assert (part.id, part.name, record.finish_reason) == ("t1", "add", "tool_calls")


def test_error() -> None:
    record = asked(ASKED, {"code": "InvalidApiKey", "message": "Invalid.", "request_id": "r-1"}, status=401)
    assert record.error is not None
    assert (record.outcome, record.error.kind, record.error.status) == ("error", "auth", 401)
