"""Cloudflare's Workers AI, in the shapes of its documents: a request by any HTTP client is a call."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
import pytest

from callspan.records import CallRecord, ToolCall
from callspan.testing import capture

Json = dict[str, Any]
MODEL: Final = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
HOST: Final = "https://api.cloudflare.com/client/v4/accounts/0123/ai/run/"
GATEWAY: Final = "https://gateway.ai.cloudflare.com/v1/0123/ours/workers-ai/"
CHAT: Final[Json] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}
SPENT: Final = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
FLAT: Final = {"name": "add", "arguments": {"a": 2}}
CALL: Final = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}

pytestmark = pytest.mark.usefixtures("no_settings")


def asked(body: Json, *answers: Json, url: str = HOST, status: int = 200) -> CallRecord:
    """The record of a request, whose answer is a stream if its body says so."""
    lines = "".join(f"data: {json.dumps(answer)}\n\n" for answer in answers) + "data: [DONE]\n\n"
    is_stream = bool(body.get("stream"))
    content = lines if is_stream else json.dumps(answers[0])
    headers = {"content-type": "text/event-stream" if is_stream else "application/json"}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=iter([content.encode()])))
    with (
        capture() as seen,
        httpx.Client(transport=transport) as client,
        client.stream("POST", f"{url}{MODEL}", json=body) as response,
    ):
        response.read()
    (record,) = seen.records
    assert (record.api, record.provider, record.request.model) == ("workers_ai", "cloudflare", MODEL)
    assert (record.stream is not None) == is_stream
    return record


def result(**fields: Any) -> Json:
    return {"result": fields, "success": True, "errors": [], "messages": []}


def facts(record: CallRecord) -> tuple[Any, ...]:
    usage, conversation = record.usage, record.conversation
    tokens = None if usage is None else (usage.input_tokens, usage.output_tokens)
    messages = [] if conversation is None else conversation.output
    calls = [(part.name, part.arguments) for one in messages for part in one.parts if isinstance(part, ToolCall)]
    return record.outcome, record.text, tokens, calls


ADDED: Final = [("add", '{"a":2}')]
PLAIN: Final[dict[str, tuple[Json, tuple[Any, ...]]]] = {
    "a text": (result(response="Hello", usage=SPENT), ("success", "Hello", (9, 4), [])),
    "a call of a tool": (result(response=None, tool_calls=[FLAT], usage=SPENT), ("success", None, (9, 4), ADDED)),
    "an object": (result(response={"city": "Paris"}, usage=SPENT), ("success", '{"city":"Paris"}', (9, 4), [])),
    "choices": (
        result(
            id="c1", object="chat.completion", model=MODEL, usage=SPENT,
            choices=[{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        ),
        ("success", "Hello", (9, 4), []),
    ),
    "without usage": (result(response="Hello"), ("success", "Hello", None, [])),
}  # fmt: skip


@pytest.mark.parametrize("url", [HOST, GATEWAY])
@pytest.mark.parametrize("name", PLAIN)
def test_answer(name: str, url: str) -> None:
    answer, expected = PLAIN[name]
    record = asked(CHAT, answer, url=url)
    got = facts(record)
    assert (got[0], got[1] or None, *got[2:]) == expected
    assert record.request.params == {"max_tokens": 64}
    assert record.response is not None
    assert not record.response.unrecognized


def chunk(delta: Json, finish: str | None = None, **fields: Any) -> Json:
    return {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}


STREAMS: Final[dict[str, tuple[list[Json], tuple[Any, ...]]]] = {
    "texts": (
        [{"response": "Hel", "p": "abc"}, {"response": "lo", "p": "a"}, {"response": "", "usage": SPENT}],
        ("success", "Hello", (9, 4), []),
    ),
    "a call of a tool": (
        [{"response": "", "tool_calls": [FLAT], "p": "a"}, {"response": "", "tool_calls": [], "usage": SPENT}],
        ("success", None, (9, 4), ADDED),
    ),
    "choices": (
        [
            chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}),
            chunk({"tool_calls": [{"index": 0, **CALL}]}, "tool_calls"), {"choices": [], "usage": SPENT},
        ],
        ("success", "Hello", (9, 4), ADDED),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_stream(name: str) -> None:
    events, expected = STREAMS[name]
    record = asked({**CHAT, "stream": True}, *events)
    got = facts(record)
    assert (got[0], got[1] or None, *got[2:]) == expected
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)


def test_stream_that_is_cut_says_so() -> None:
    record = asked({**CHAT, "stream": True}, {"response": "Hel"})
    assert record.stream is not None
    assert (record.text, record.stream.end) == ("Hel", "cut_off")


def test_prompt_is_a_message_and_no_parameter() -> None:
    record = asked({"prompt": "Hi", "lora": "mine"}, result(response="Hello"))
    assert record.conversation is not None
    assert [message.parts[0].text for message in record.conversation.input] == ["Hi"]  # type: ignore[union-attr]
    assert record.request.params == {"lora": "mine"}


def test_error() -> None:
    refused = {"result": None, "success": False, "errors": [{"code": 7009, "message": "No such model"}], "messages": []}
    record = asked(CHAT, refused, status=400)
    assert record.error is not None
    assert (record.outcome, record.error.status, record.error.message) == ("error", 400, "No such model")
