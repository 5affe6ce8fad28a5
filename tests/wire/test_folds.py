"""What folds make of streams that have the habits of servers: every block of the answer, each once.

An API joins by its row in `callspan.record.apis`: it has a writer, or is one of those whose streams have no blocks.
"""

from __future__ import annotations

import json

import pytest
from tests.support.bodies import endpoint, folded
from tests.support.scale import scaled
from tests.wire.generated_streams import Piece
from tests.wire.recorded_answers import read, truth
from tests.wire.stream_oracle import Answer
from tests.wire.written_folds import NESTED, WRITERS, written

from callspan.providers import registry
from callspan.providers.fold.last import LastBody
from callspan.record.apis import APIS
from callspan.records import ToolCall

NUMBER = scaled(400, 5000)
GENERATED = {"chat_completions", "responses", "messages"}
"""Those of `test_streams_differential`, with an oracle."""
LIKE = {
    "fim_completions": "chat_completions",
    "watsonx_chat": "chat_completions",
    "span_messages": "chat_completions",
    "realtime": "responses",
}
"""Those with the fold of another."""
WITHOUT_BLOCKS = {
    "completions", "bidi_generate_content", "invoke_model", "ollama_generate", "ollama_embed", "text_generation",
    "watsonx_generation", "workers_ai", "dashscope_generation",
}  # fmt: skip
"""Texts alone, or whole calls, in the order in which they come."""


def test_every_api_with_streams_is_here() -> None:
    streamed = {
        name
        for name, row in APIS.items()
        if not row.is_media and not isinstance(registry.by_api(name).accumulator(), LastBody)  # type: ignore[union-attr]
    }
    assert streamed == WRITERS.keys() | GENERATED | LIKE.keys() | WITHOUT_BLOCKS


@pytest.mark.parametrize("api", WRITERS)
def test_every_block_is_recorded_once(api: str) -> None:
    wrong = []
    for events, pieces, habits in written(api, NUMBER):
        body = folded(api, *events)
        made, wrote = read(api, body)[0], truth(expected(api, pieces))
        if made != wrote:
            wrong.append(f"{habits}\n  wrote {wrote}\n  record {made}")
        elif api != "cohere_chat_v1" and (cut := incomplete(api, body)):
            wrong.append(f"{habits}\n  incomplete {cut}")
    assert not wrong, "\n".join([f"{len(wrong)} of {NUMBER} streams", *wrong[:8]])


def expected(api: str, pieces: list[Piece]) -> list[Piece]:
    if api == "cohere_chat_v1":
        pieces = [Piece("text", piece.words) if piece.kind == "thought" else piece for piece in pieces]
    if api not in NESTED:
        return pieces
    return [
        Piece("call", name=piece.name, arguments=json.dumps({"a": piece.arguments})) if piece.kind == "call" else piece
        for piece in pieces
    ]


def incomplete(api: str, body: object) -> list[str | None]:
    output = endpoint(api).conversation(None, body).output
    return [part.name for message in output for part in message.parts if isinstance(part, ToolCall) and part.incomplete]


@pytest.mark.parametrize("api", WRITERS)
def test_every_prefix_has_what_was_sent(api: str) -> None:
    for events, pieces, _ in written(api, NUMBER // 20):
        whole: Answer = truth(expected(api, pieces))
        for length in range(len(events)):
            body = folded(api, *events[:length])
            text = read(api, body)[0].text if body is not None else ""
            assert whole.text.startswith(text)
