"""Recorded exchanges of other wires than those of openai and anthropic are read as an oracle reads their bytes.

They lie beside the project, of which they are no part, and are read at full scale.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.bodies import endpoint, folded
from tests.support.scale import FULL
from tests.wire import wires_oracle as oracle
from tests.wire.corpus import MORE

from callspan.records import Reasoning, UnknownPart

Json = dict[str, Any]
WIRES: dict[str, tuple[str, Callable[[Json], oracle.Truth], int]] = {
    "generate_content": ("generate_content", oracle.gemini, 267),
    "generate_content_stream": ("generate_content", oracle.gemini, 15),
    "converse": ("converse", oracle.converse, 114),
    "converse_stream": ("converse", oracle.converse, 10),
    "cohere_v2_chat": ("cohere_chat", oracle.cohere, 27),
    "cohere_v1_chat": ("cohere_chat_v1", oracle.cohere_v1, 10),
    "cohere_embed": ("cohere_embed", oracle.of_input, 7),
    "rerank": ("rerank", oracle.of_input, 3),
    "embed_content": ("embed_content", oracle.of_input, 7),
    "ollama_chat": ("ollama_chat", oracle.ollama, 6),
    "ollama_generate": ("ollama_generate", oracle.ollama, 2),
}
"""The API, the oracle and the number of answered exchanges of each kind."""

pytestmark = pytest.mark.skipif(not (FULL and MORE.is_file()), reason="needs the recorded exchanges, at full scale")


def recorded(kind: str) -> list[Json]:
    with gzip.open(MORE, "rt", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if row["endpoint"] == kind]


def body_of(api: str, row: Json) -> Any:
    is_one = not row["stream"] or row["status"] != 200
    return json.loads(row["body"]) if is_one else folded(api, *oracle.events(row))


def read(api: str, row: Json, body: Any) -> oracle.Truth:
    info, conversation = endpoint(api).response_info(body), endpoint(api).conversation(row["request"], body)
    assert (info.recognized, info.response.unknown_finish) == (True, False)
    assert info.error is None or info.error.type in info.response.finish_reasons, "a model may fail, and say so"
    parts = [part for message in conversation.output for part in message.parts]
    assert not any(isinstance(part, UnknownPart) for part in parts)
    calls = [call for message in conversation.output for call in message.tool_calls if call.tool_type == "function"]
    usage = info.usage
    is_counted = usage is not None and (usage.input_tokens, usage.output_tokens) != (None, None)
    return oracle.Truth(
        "".join(message.text or "" for message in conversation.output),
        "".join(part.text or "" for part in parts if isinstance(part, Reasoning)),
        [call.name for call in calls],
        [json.loads(call.arguments) for call in calls],
        (usage.input_tokens, usage.output_tokens) if is_counted else None,
        info.response.finish_reasons,
    )


@pytest.mark.parametrize("kind", WIRES)
def test_answer_is_read_as_its_bytes_say(kind: str) -> None:
    api, truth, number = WIRES[kind]
    answered = [row for row in recorded(kind) if row["status"] == 200]
    assert len(answered) == number
    wrong = list[str]()
    for row in answered:
        found, expected = read(api, row, body_of(api, row)), truth(row)
        if api == "rerank":
            found = found._replace(text="")
        if any(isinstance(reason, int) for each in oracle.events(row) for reason in numbers(each)):
            found = found._replace(finish=[])
        wrong += [
            f"{row['id']} {name}: {got!r}, not {want!r}"
            for name, got, want in zip(oracle.Truth._fields, found, expected, strict=True)
            if got != want
        ]
    assert not wrong, "\n".join([f"{len(answered)} exchanges", *wrong[:40]])


def numbers(chunk: Json) -> list[Any]:
    """The finish reasons of Google's protobuf clients, which are numbers."""
    return [each.get("finishReason") for each in chunk.get("candidates") or [] if isinstance(chunk, dict)]


@pytest.mark.parametrize("kind", WIRES)
def test_failure_has_its_message(kind: str) -> None:
    api = WIRES[kind][0]
    for row in recorded(kind):
        if row["status"] != 200:
            error = endpoint(api).response_info(json.loads(row["body"])).error
            assert error is not None
            assert error.message
            assert error.message in row["body"].replace('\\"', '"')


@pytest.mark.parametrize("kind", WIRES)
def test_every_prefix_of_a_stream_is_read(kind: str) -> None:
    api = WIRES[kind][0]
    for row in recorded(kind):
        if row["stream"] and row["status"] == 200:
            accumulator = endpoint(api).accumulator()
            for event in oracle.events(row):
                accumulator.add(event)
                body = accumulator.body()
                endpoint(api).response_info(body)
                endpoint(api).conversation(row["request"], body)
            assert accumulator.complete
