"""Invalid values in every field of what tells of calls: lines of batches, background responses."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from callspan.records import encode
from callspan.testing import capture
from tests.intercept import sdks
from tests.intercept.calls import Run
from tests.intercept.mode import Mode
from tests.scale import scaled

pytestmark = [
    pytest.mark.skipif(sdks.OPENAI < (2, 0), reason="older SDKs take other paths"),
    pytest.mark.skipif(sdks.ANTHROPIC < (0, 42), reason="anthropic has batches of messages since 0.42"),
]
SECRET = "a secret text"
INVALID: list[Any] = [
    None, [], {}, "", -1, True, 1e308, 10**30, "\ud800", [None], ["a"], {"id": []}, "2026-99-99T00:00:00Z"
]  # fmt: skip
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
CHAT = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1700000000, "status": "completed", "background": True,
    "model": "m", "output": [{"type": "message", "content": [{"type": "output_text", "text": SECRET}]}],
    "usage": USAGE, "error": None,
}  # fmt: skip
ANSWER = {
    "id": "c1", "object": "chat.completion", "created": 1700000000, "model": "m", "usage": CHAT,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": SECRET}, "finish_reason": "stop"}],
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": SECRET}], "usage": {"input_tokens": 3, "output_tokens": 2},
}  # fmt: skip
RESULTS: dict[str, Any] = {
    "openai /files/file-out/content": {
        "custom_id": "a", "error": None, "response": {"status_code": 200, "body": ANSWER},
    },
    "anthropic /v1/messages/batches/msgbatch_1/results": {
        "custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE},
    },
}  # fmt: skip


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON value, without its own."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in named:
        yield (*path, key)
        yield from places(inner, *path, key)


def spoiled(body: Any) -> Iterator[Any]:
    """Yield the body with one value missing or invalid, and invalid bodies."""
    yield from INVALID
    for *path, last in places(body):
        for invalid in (*INVALID, ...):
            changed = copy.deepcopy(body)
            holder = changed
            for key in path:
                holder = holder[key]
            if invalid is ...:
                del holder[last]
            else:
                holder[last] = invalid
            yield changed


async def fetched(mode: Mode, client: Any, path: str, raw: bytes) -> bytes:
    mode.provider.reply(raw=raw, on=path)
    library = sdks.http_of(type(client).__module__.partition(".")[0])
    return bytes((await mode.wait(client.get(path, cast_to=library.Response))).content)


def test_a_response_with_invalid_values_reaches_the_caller_and_shows_nothing(
    mode: Mode, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Each call is one record at most, which stores can have; a report of the usual kind is read as ever afterwards."""
    sampled = islice(spoiled(RESPONSE), 0, None, scaled(5, 1))
    bodies = [json.dumps(body).encode() for body in (*sampled, RESPONSE)]

    async def body() -> None:
        client = mode.openai()
        for raw in bodies:
            assert await fetched(mode, client, "/responses/resp_1", raw) == raw

    with capture(content="metadata") as seen:
        run(body)
        assert caplog.messages == []
    ids = [call.call_id for call in seen.records]
    assert len(ids) == len(set(ids))
    assert ids
    kept = b"".join(map(encode, seen.everything))
    assert SECRET.encode() not in kept
    assert SECRET not in str([dict(span.attributes or {}) for span in seen.spans])


@pytest.mark.parametrize("results", RESULTS)
def test_lines_with_invalid_values_cost_no_other_line(
    results: str, mode: Mode, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    sdk, path = results.split()
    good = json.dumps({**RESULTS[results], "custom_id": "good"})
    lines = [text for line in spoiled(RESULTS[results]) for text in (json.dumps(line), "", "no JSON", good)]
    raw = "\n".join(lines).encode()

    async def body() -> None:
        client = getattr(mode, sdk)()
        assert await fetched(mode, client, path, raw) == raw

    with capture(content="metadata") as seen:
        run(body)
        assert caplog.messages == []
    (call,) = [call for call in seen.records if call.custom_id == "good"]
    assert call.usage is not None
    assert (call.outcome, call.usage.input_tokens, call.usage.output_tokens) == ("success", 3, 2)
    assert SECRET.encode() not in b"".join(map(encode, seen.everything))
