"""Unrecognized responses are flagged everywhere, never recorded as an empty success."""

from __future__ import annotations

import logging
from typing import Any, Final

import pytest

import callspan
from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.support.calls import APIS, Run, Wire, the_call
from tests.support.mode import Mode

GEMINI: Final = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Well."}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
    "modelVersion": "gemini-3",
}
OLLAMA: Final = {"model": "llama", "message": {"role": "assistant", "content": "Well."}, "done": True}
BEDROCK: Final = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Well."}]}},
    "stopReason": "end_turn",
}
FOREIGN: Final[dict[str, Any]] = {
    "gemini": GEMINI, "ollama": OLLAMA, "bedrock converse": BEDROCK, "a page": "<html>Log in</html>", "nothing": {},
    "a list": [1],
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("unwarned")
KNOWN: Final[dict[str, list[Any]]] = {
    "chat_completions": [
        {"choices": [{"message": {"content": ""}}]},
        {"id": "c1", "object": "chat.completion", "choices": []},
        {"error": {"message": "no"}},
    ],
    "completions": [{"choices": [{"text": ""}]}, {"error": {"message": "no"}}],
    "embeddings": [{"data": [{"embedding": [0.5]}]}, {"object": "list", "data": []}],
    "decisions": [{"answers": []}],
    "images": [{"data": [{"b64_json": "aGk="}]}, {"created": 1, "data": []}],
    "image_edits": [{"data": [{"url": "https://a.example.com/i.png"}]}],
    "image_variations": [{"data": []}],
    "moderations": [{"results": []}],
    "realtime": [{"status": "completed", "output": []}, {"object": "realtime.response", "output": []}],
    "live": [{"id": "live_1", "turns": []}],
    "realtime_translations": [{"id": "sess_1", "turns": []}],
    "speech": [{"audio": {"callspan_media": {"bytes": 1}}}],
    "transcriptions": [{"text": ""}, {"text": "Well.", "segments": []}],
    "translations": [{"text": "Well."}],
    "messages": [{"type": "message", "content": []}, {"content": [{"type": "text", "text": "Well."}]}],
    "responses": [{"output": []}, {"status": "queued"}, {"object": "response.compaction", "output": []}],
}


def by_hand(api: Any, body: object = None, chunks: list[Any] | None = None) -> None:
    with callspan.record_call(provider="google", api=api, model="m") as call:
        call.request({"model": "m", "contents": []})
        for chunk in chunks or ():
            call.chunk(chunk)
        if chunks is None:
            call.response(body)


def flag(record: CallRecord) -> bool:
    assert record.response is not None
    return record.response.unrecognized


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("api", KNOWN)
def test_a_body_of_another_api_is_flagged(api: str, foreign: str, caplog: pytest.LogCaptureFixture) -> None:
    with capture() as seen:
        by_hand(api, FOREIGN[foreign])
        record = the_call(seen)
        (span,) = seen.spans
    assert (record.outcome, flag(record)) == ("success", True)
    assert (span.attributes or {})["callspan.response.unrecognized"] is True
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "google" in warning
    assert api in warning
    if isinstance(FOREIGN[foreign], dict) and FOREIGN[foreign]:
        assert next(iter(FOREIGN[foreign])) in warning
    assert "Well." not in warning


@pytest.mark.parametrize("api", KNOWN)
def test_null_and_a_detail_alone_are_no_success(api: str, seen: Captured) -> None:
    by_hand(api, None)
    by_hand(api, {"detail": "Not Found"})
    found = [(record.outcome, record.error.message) for record in seen.records if record.error is not None]
    assert found == [("error", "The body of the response is null."), ("error", "Not Found")]
    assert not any(flag(record) for record in seen.records if record.response is not None)


@pytest.mark.parametrize("api", KNOWN)
def test_the_chunks_of_another_api_are_flagged(api: str, seen: Captured) -> None:
    by_hand(api, chunks=[GEMINI, GEMINI])
    assert flag(the_call(seen))


@pytest.mark.parametrize("api", KNOWN)
def test_what_an_adapter_knows_is_not_flagged(api: str, seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    for body in KNOWN[api]:
        by_hand(api, body)
    assert [flag(record) for record in seen.records] == [False] * len(KNOWN[api])
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any("callspan.response.unrecognized" in (span.attributes or {}) for span in seen.spans)


def test_there_is_one_warning_for_a_provider_and_an_api(seen: Captured, caplog: pytest.LogCaptureFixture) -> None:
    for api in ("messages", "messages", "responses"):
        by_hand(api, GEMINI)
    assert len(seen.records) == 3
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 2


def test_calls_that_are_read_are_not_flagged(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        result = await mode.wait(mode.openai().completions.create(model="m", prompt="Hi", stream=stream))
        if stream:
            await mode.all(result)
        for api in APIS:
            await Wire(api, mode, "stream" if stream else "plain").call()

    run(body)
    assert [flag(record) for record in seen.records] == [False] * 4
