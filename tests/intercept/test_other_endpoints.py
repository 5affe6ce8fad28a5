"""Endpoints that are neither chat nor embeddings: moderations, searches, images, sound."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from callspan.records import encode
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.calls import Run
from tests.intercept.mode import Mode

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
"""The newest SDK deprecates translations."""

CALLS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "moderations.create": (
        "moderations", "moderation", "moderation omni-moderation-latest",
        {"model": "omni-moderation-latest", "input": "Is this harmless?"},
    ),
    "vector_stores.search": (
        "vector_store_search", "retrieval", "retrieval",
        {"vector_store_id": "vs_1", "query": "Is this harmless?", "max_num_results": 3},
    ),
    "images.generate": (
        "images", "generate_content", "generate_content gpt-image-1",
        {"model": "gpt-image-1", "prompt": "Is this harmless?"},
    ),
    "audio.transcriptions.create": (
        "transcriptions", "generate_content", "generate_content gpt-4o-transcribe",
        {"model": "gpt-4o-transcribe", "file": ("a.wav", b"sound"), "prompt": "Is this harmless?"},
    ),
    "audio.translations.create": (
        "translations", "generate_content", "generate_content whisper-1",
        {"model": "whisper-1", "file": ("a.wav", b"sound"), "prompt": "Is this harmless?"},
    ),
    "images.edit": (
        "image_edits", "generate_content", "generate_content gpt-image-1",
        {"model": "gpt-image-1", "image": b"pixels", "prompt": "Is this harmless?"},
    ),
}  # fmt: skip


def method_of(client: Any, path: str) -> Any:
    sdks.needs_name(client, path)
    for name in path.split("."):
        client = getattr(client, name)
    return client


def called(mode: Mode, run: Run, path: str, **options: Any) -> Any:
    arguments = CALLS[path][3]

    async def body() -> Any:
        return await mode.wait(method_of(mode.openai(**options), path)(**arguments))

    return run(body)


@pytest.mark.parametrize("path", CALLS)
def test_one_span_and_one_record(path: str, mode: Mode, run: Run, seen: Captured) -> None:
    api, operation, name, _ = CALLS[path]
    called(mode, run, path)
    (record,), (span,) = seen.records, seen.spans
    assert (record.api, record.operation, record.outcome, record.error) == (api, operation, "success", None)
    assert (span.name, span.attributes["gen_ai.operation.name"]) == (name, operation)
    assert record.trace_id == format(span.context.trace_id, "032x")
    assert record.conversation is not None
    assert record.conversation.input[0].text == "Is this harmless?"
    assert record.conversation.output[0].text is not None


@pytest.mark.parametrize("path", CALLS)
def test_an_error_is_recorded_and_raised(path: str, mode: Mode, run: Run, seen: Captured) -> None:
    method_of(mode.openai(), path)
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(status=400, message="No such thing.")
    with pytest.raises(openai.BadRequestError, match="No such thing"):
        called(mode, run, path, max_retries=1)
    (record,) = seen.records
    assert (record.outcome, record.retries, [attempt.status for attempt in record.attempts]) == ("error", 1, [429, 400])
    assert len(seen.spans) == 1


def test_usage_that_is_not_stated_is_unknown(mode: Mode, run: Run, seen: Captured) -> None:
    called(mode, run, "moderations.create")
    called(mode, run, "vector_stores.search")
    assert [record.usage for record in seen.records] == [None, None]
    assert all("gen_ai.usage.input_tokens" not in span.attributes for span in seen.spans)


@pytest.mark.parametrize("content", ["off", "metadata"])
@pytest.mark.parametrize("path", CALLS)
def test_content_that_is_not_wanted_is_nowhere(path: str, content: Any, mode: Mode, run: Run) -> None:
    """No word of the question, the answer, a filter's values or an error's message."""
    method_of(mode.openai(), path)
    words = "open sesame"
    arguments: dict[str, dict[str, Any]] = {
        "moderations.create": {"input": [{"type": "text", "text": words}]},
        "vector_stores.search": {
            "vector_store_id": "vs_1", "query": words, "filters": {"type": "eq", "key": "note", "value": words},
        },
        "images.generate": {"model": "gpt-image-1", "prompt": words, "user": words},
        "images.edit": {"model": "gpt-image-1", "image": (f"{words}.png", words.encode()), "prompt": words},
        "audio.transcriptions.create": {"model": "whisper-1", "file": (f"{words}.wav", b"s"), "prompt": words},
        "audio.translations.create": {"model": "whisper-1", "file": (f"{words}.wav", b"s"), "prompt": words},
    }  # fmt: skip

    async def body() -> Any:
        return await mode.wait(method_of(mode.openai(), path)(**arguments[path]))

    with capture(content=content) as seen:
        mode.provider.reply(text=words)
        run(body)
        mode.provider.reply(status=400, message=words)
        with pytest.raises(openai.BadRequestError):
            run(body)
        texts = [*(span.to_json() for span in seen.spans), *(encode(record).decode() for record in seen.everything)]
    assert [record.outcome for record in seen.records] == ["success", "error"]
    assert [text for text in texts if "sesame" in text] == []
