"""Estimates of tokens: only for missing counts, only from text, and marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.observe.token_estimates import tokens_of, with_estimates
from callspan.records import (
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
    Usage,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("äöüß", 1),
        ("日本", 2),
        ("日本abcd", 3),
        ("日a", 2),
        ("😀", 1),
        ("ɏ", 1),
    ],
)
def test_about_four_letters_of_latin_script_are_a_token(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    together = tokens_of(one + other)
    assert max(tokens_of(one), tokens_of(other)) <= together <= tokens_of(one) + tokens_of(other)


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


CONVERSATION = Conversation(
    input=[Message(role="user", parts=[Text(text="x" * 16)])],
    output=[Message(role="assistant", parts=[Text(text="y" * 4)])],
)


@pytest.mark.parametrize(
    ("stated", "filled"),
    [
        (Usage(input_tokens=1, output_tokens=2), Usage(input_tokens=1, output_tokens=2)),
        (Usage(input_tokens=0, output_tokens=0), Usage(input_tokens=0, output_tokens=0)),
        (Usage(input_tokens=0), Usage(input_tokens=0, output_tokens=5, total_tokens=5, estimated=True)),
        (Usage(output_tokens=100), Usage(input_tokens=8, output_tokens=100, total_tokens=108, estimated=True)),
        (Usage(total_tokens=50), Usage(input_tokens=8, output_tokens=5, total_tokens=50, estimated=True)),
        (Usage(cache_read_tokens=3, raw={"a": 1}),
         Usage(input_tokens=8, output_tokens=5, total_tokens=13, cache_read_tokens=3, raw={"a": 1}, estimated=True)),
        (None, Usage(input_tokens=8, output_tokens=5, total_tokens=13, estimated=True)),
    ],
)  # fmt: skip
def test_only_what_was_not_reported_is_estimated(stated: Usage | None, filled: Usage) -> None:
    assert with_estimates(stated, CONVERSATION) == filled


def test_definitions_of_tools_are_part_of_the_request_and_no_messages_are_none() -> None:
    tools = [{"name": "look"}, "text of a tool"]
    assert with_estimates(None, Conversation(tools=tools)).input_tokens == 4 + 4
    nothing = with_estimates(None, Conversation())
    assert (nothing.input_tokens, nothing.output_tokens, nothing.total_tokens) == (0, 0, 0)
