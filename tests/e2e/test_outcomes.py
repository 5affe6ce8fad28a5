"""Errors and outcomes of calls under every content setting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from opentelemetry.trace import StatusCode

from callspan.testing import Captured, capture
from tests.e2e.ask import chat, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import text_of, the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


class UnprintableError(Exception):
    """An exception of the application whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("content", ["full", "off"])
def test_an_error_without_words_or_content_is_its_type(
    content: Any, mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception whose text raises is recorded by its type alone, and reaches the caller unchanged."""
    problem = UnprintableError()

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise problem

    async def refuse_async(*args: Any, **kwargs: Any) -> Any:
        raise problem

    with capture(content=content) as seen:
        client = mode.openai()
        monkeypatch.setattr(client, "_prepare_options", refuse_async if mode.is_async else refuse)
        with pytest.raises(UnprintableError) as raised:
            run(lambda: mode.wait(client.chat.completions.create(model="gpt-5", messages=[])))
        assert raised.value is problem
        record = the_call(seen)
        assert record.error is not None
        assert (record.outcome, record.error.type, record.error.message) == ("error", "UnprintableError", None)
        assert seen.spans[0].status.status_code is StatusCode.ERROR


def test_with_content_off_an_error_keeps_its_class_and_loses_its_text(mode: Mode, run: Run) -> None:
    """Errors quote what was asked: with content off neither span nor record says the words."""
    with capture(content="off") as seen:
        mode.provider.reply(status=400, message="You said: open sesame")
        with pytest.raises(openai.BadRequestError, match="open sesame"):
            run(lambda: mode.wait(chat(mode)))
        record = the_call(seen)
        assert record.error is not None
        assert (record.error.kind, record.error.message) == ("bad_input", None)
        assert shown(seen)["error.type"]
        assert "sesame" not in seen.spans[0].to_json()


def test_a_null_error_is_no_error(mode: Mode, run: Run, seen: Captured) -> None:
    """Successful responses carry `"error": null`, plain and streamed: they are successes."""
    for stream in (False, True):
        mode.provider.reply(text="well")
        run(lambda stream=stream: response_of(mode, "responses", stream=stream))  # type: ignore[misc]
    assert b'"error":null' in bytes(seen.records[0].response.body if seen.records[0].response else b"")
    assert [record.outcome for record in seen.records] == ["success", "success"]
    assert [record.error for record in seen.records] == [None, None]


def test_a_call_that_fails_halfway_keeps_its_tool_call_so_far(mode: Mode, run: Run, seen: Captured) -> None:
    """Text, tool call and number of chunks up to the error."""
    call = {"id": "t1", "name": "look", "arguments": {"at": "the sky above the harbour"}}
    mode.provider.reply(text="Let me see.", tool_calls=[call], cut_after=6)
    with pytest.raises(Exception, match=r"\w"):
        run(lambda: response_of(mode, "chat_completions", stream=True))
    record = the_call(seen)
    assert record.outcome == "error"
    assert text_of(record).startswith("Let me see.")
    assert record.conversation is not None
    (_, part) = record.conversation.output[0].parts
    assert (getattr(part, "name", None), getattr(part, "incomplete", None)) == ("look", True)
    assert record.stream is not None
    assert record.stream.chunks == shown(seen)["callspan.stream.chunks"] > 3
