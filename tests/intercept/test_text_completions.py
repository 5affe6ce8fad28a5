"""Anthropic's older text completions, `POST /v1/complete`: by the SDKs that have a method for it, and by any client."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import Stream

from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept.calls import Run, text_of, the_call
from tests.intercept.mode import Mode

PROMPT = "\n\nHuman: How are you?\n\nAssistant:"
BODY = {"model": "claude-2.1", "prompt": PROMPT, "max_tokens_to_sample": 64, "metadata": {"user_id": "u1"}}
FORMS = ("method", "post")


async def completed(mode: Mode, form: str, *, stream: bool = False, **options: Any) -> Any:
    """Send the request with the method of the SDK, or by hand; read a stream to its end."""
    client = mode.anthropic(**options)
    if form == "method":
        if not hasattr(client, "completions"):
            pytest.skip(f"anthropic {anthropic.__version__} has no completions")
        answer = await mode.wait(client.completions.create(**BODY, stream=stream))
    else:
        streams = anthropic.AsyncStream if mode.is_async else Stream
        answer = await mode.wait(
            client.post(
                "/v1/complete",
                body={**BODY, "stream": stream},
                cast_to=object,
                stream=stream,
                stream_cls=streams[object],
            )
        )
    return await mode.all(answer) if stream else answer


def facts(record: CallRecord) -> tuple[object, ...]:
    return (
        record.provider,
        record.api,
        record.operation,
        record.outcome,
        record.request.model,
        record.usage,
        record.cost,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_one_record(form: str, stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=" I am well today.", finish_reason="length")
    run(lambda: completed(mode, form, stream=stream))
    record = the_call(seen)
    assert facts(record) == ("anthropic", "text_completions", "text_completion", "success", "claude-2.1", None, None)
    assert text_of(record) == " I am well today."
    assert record.conversation is not None
    assert record.conversation.input[0].text == PROMPT
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.truncated) == (["max_tokens"], True)
    assert record.response.id is not None
    body = json.loads(bytes(record.response.body))
    assert (body["type"], body["completion"], body["stop"]) == ("completion", " I am well today.", None)
    assert (record.stream is not None) == stream
    if record.stream is not None:
        assert (record.stream.end, record.stream.complete) == ("complete", True)


def test_a_span_has_its_attributes(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=" I am well.")
    run(lambda: completed(mode, "post"))
    (span,) = seen.spans
    attributes = span.attributes
    assert span.name == "text_completion claude-2.1"
    assert attributes["gen_ai.request.max_tokens"] == attributes["llm.request.max_tokens"] == 64
    assert attributes["llm.user"] == "u1"
    assert attributes["llm.completions"] == " I am well."
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert not [name for name in attributes if "usage" in name]
    (answer,) = json.loads(attributes["gen_ai.output.messages"])
    assert (answer["finish_reason"], answer["parts"][0]["content"]) == ("stop", " I am well.")
    assert json.loads(attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == PROMPT


def test_an_error_in_a_stream_keeps_what_came_before(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well today.", error_after=3, message="Overloaded")
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        run(lambda: completed(mode, "post", stream=True))
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("error", "I am")
    assert record.error is not None
    assert record.error.type == "overloaded_error"


def test_without_content_neither_prompt_nor_completion_is_kept(mode: Mode, run: Run) -> None:
    from callspan.testing import capture

    mode.provider.reply(text="secret answer")
    with capture(content="metadata") as seen:
        run(lambda: completed(mode, "post", stream=True))
    shown = f"{seen.records[0]!r} {[dict(span.attributes) for span in seen.spans]}"
    assert "secret answer" not in shown
    assert "Human" not in shown
