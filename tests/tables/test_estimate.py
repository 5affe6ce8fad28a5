"""What is observed of a call: estimates of tokens, notes of chunks."""

from __future__ import annotations

import pytest

from callspan.observe.chunk_log import chunk_note
from callspan.observe.token_estimates import with_estimates
from callspan.records import (
    ChunkNote,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (Text(text="x" * 8), 2),
        (Refusal(text="x" * 4), 1),
        (Reasoning(text="x" * 12), 3),
        (Reasoning(sealed="x" * 400), 0),
        (ToolCall(name="look", arguments='{"a":1}'), 1 + 2),
        (ToolCall(), 0),
        (ToolResult(content="x" * 8), 2),
        (ToolResult(content=[{"a": 1}]), 3),
        (ToolResult(), 1),
        (Media(modality="image", url="x" * 999), 0),
        (UnknownPart(data="x" * 999), 0),
    ],
)
def test_tokens_estimated_for_each_kind_of_part(part: Part, tokens: int) -> None:
    message = Message(role="user", parts=[part])
    found = with_estimates(None, Conversation(system=[part], input=[message, message], output=[message]))
    assert (found.input_tokens, found.output_tokens) == (tokens + 2 * (4 + tokens), 4 + tokens)
    assert found.total_tokens == 3 * tokens + 8 + 4 + tokens
    assert found.estimated


def test_definitions_of_tools_are_part_of_the_request_and_no_messages_are_none() -> None:
    tools = [{"name": "look"}, "text of a tool"]
    assert with_estimates(None, Conversation(tools=tools)).input_tokens == 4 + 4
    nothing = with_estimates(None, Conversation())
    assert (nothing.input_tokens, nothing.output_tokens, nothing.total_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("chunk", "event", "choice"),
    [
        ({"choices": [{"index": 3, "delta": {"content": "x"}}]}, None, 3),
        (
            {"type": "response.output_text.delta", "output_index": 1, "content_index": 0},
            "response.output_text.delta",
            1,
        ),
        ({"type": "content_block_delta", "index": 2, "delta": {}}, "content_block_delta", 2),
    ],
)
def test_a_note_says_event_and_choice_in_the_words_of_the_provider(
    chunk: object, event: str | None, choice: int
) -> None:
    assert chunk_note(chunk, 50, content=True) == ChunkNote(offset_ns=50, event=event, choice=choice, content=True)
