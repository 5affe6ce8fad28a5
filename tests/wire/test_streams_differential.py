"""What is recorded of a stream, against an oracle of its own and, where streams are generated, against the truth.

Of every recorded stream, and of thousands with the habits of servers: nothing twice, nothing lost.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from tests.support.bodies import endpoint, folded
from tests.support.scale import scaled
from tests.wire import corpus
from tests.wire.generated_streams import Piece, Stream, streams
from tests.wire.stream_oracle import Answer, answers, bare, normal

from callspan.records import Message, Reasoning, Refusal, Text, ToolCall

NUMBER = scaled(1500, 20_000)
SHARES = 4
NAMED = ("function", "custom", "mcp")
"""Tools with a name and arguments; others of the Responses API say what they do in fields of their own."""
NOTHING = [Answer("", "", [])]


def recorded(api: str, events: list[Any]) -> list[Answer]:
    output: list[Message] = endpoint(api).conversation(None, folded(api, *events)).output
    return [answer_of(message, api) for message in output if message.role == "assistant"] or NOTHING


def answer_of(message: Message, api: str) -> Answer:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    return Answer(
        "".join(part.text or "" for part in message.parts if isinstance(part, Text | Refusal)),
        bare("".join(part.text or "" for part in message.parts if isinstance(part, Reasoning))),
        [(call.name, normal(call.arguments or "")) for call in calls if api != "responses" or call.tool_type in NAMED],
    )


def truth(pieces: list[Piece]) -> Answer:
    return Answer(
        "".join(piece.words for piece in pieces if piece.kind == "text"),
        bare("".join(piece.words for piece in pieces if piece.kind == "thought")),
        [(piece.name, normal(piece.arguments)) for piece in pieces if piece.kind == "call"],
    )


@functools.cache
def generated() -> tuple[Stream, ...]:
    return tuple(streams(NUMBER))


@pytest.mark.parametrize("share", range(SHARES))
def test_generated_streams_are_recorded_as_they_were_written(share: int) -> None:
    wrong = []
    for stream in generated()[share::SHARES]:
        read, made = answers(stream.api, stream.events)[0], recorded(stream.api, stream.events)[0]
        written = truth(stream.pieces)
        if not read == made == written:
            wrong.append(f"{stream.api} {stream.habits}\n  wrote {written}\n  oracle {read}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} streams", *wrong[:12]])


def test_recorded_streams_are_read_as_the_oracle_reads_them() -> None:
    chosen = [each for each in corpus.streams() if each.status == 200 and each.body.lstrip()[:1] != "{"]
    assert len(chosen) >= scaled(40, 150)
    wrong = []
    for each in chosen:
        events = list(corpus.chunks(each.body))
        read, made = answers(each.endpoint, events) or NOTHING, recorded(each.endpoint, events)
        if read != made:
            wrong.append(f"{each.id} {each.host}\n  oracle {read}\n  record {made}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(chosen)} streams", *wrong])
