"""Comparison of two answers: text by words, vectors by numbers, for every wire format."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from callspan.cli.replay import full_output, output_kind, same_output
from callspan.records import CallRecord, Conversation, Message, Response, Text, ToolCall

from .conftest import made


def embedded(*vectors: Any) -> CallRecord:
    body = json.dumps({"data": [{"embedding": vector} for vector in vectors]}).encode()
    return made(operation="embeddings", response=Response(body=msgspec.Raw(body)))


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def with_output(*parts: Any) -> CallRecord:
    return made(conversation=Conversation(output=[Message(role="assistant", parts=list(parts))]))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (made(), None),
        (with_output(), None),
        (with_output(Text(text="a"), ToolCall(name="look", arguments="{}")), "a\nlook({})"),
        (embedded([0.5, 1]), "1 vector of 2 numbers"),
        (embedded([0.5], [1, 2], packed(1.0)), "3 vectors of 1 and 2 numbers"),
        (embedded({"callspan_vector": {"dimensions": 1536}}), "1 vector of 1,536 numbers"),
        (embedded("not base64"), "1 vector of 0 numbers"),
        (made(operation="embeddings"), None),
    ],
)
def test_the_response_is_reported_in_full(call: CallRecord, expected: str | None) -> None:
    assert full_output(call) == expected


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (with_output(Text(text="a")), with_output(Text(text="a")), True),
        (with_output(Text(text="a")), with_output(Text(text="b")), False),
        (embedded([0.5, 0.25]), embedded(packed(0.5, 0.25)), True),
        (embedded([0.5, 0.25]), embedded(packed(0.5, 0.5)), False),
        (embedded([0.5, 0.25]), embedded([0.5]), False),
        (embedded({"callspan_vector": {"dimensions": 2}}), embedded([0.5, 0.25]), None),
        (embedded({"callspan_vector": {"dimensions": 3}}), embedded([0.5, 0.25]), False),
    ],
)
def test_answers_are_the_same_or_not_or_unknown(before: CallRecord, after: CallRecord, same: bool | None) -> None:
    assert same_output(before, after) is same


def test_an_answer_is_made_of_words_or_of_vectors() -> None:
    assert (output_kind(with_output()), output_kind(embedded())) == ("words", "vectors")
