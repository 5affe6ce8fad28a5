"""Recorded answers: what an answer says, as an adapter reads it and as it was written, in the form of the oracle."""

from __future__ import annotations

from tests.support.bodies import endpoint
from tests.wire.generated_streams import Piece
from tests.wire.stream_oracle import Answer, bare, normal

from callspan.records import Message, Reasoning, Refusal, Text, ToolCall

NAMED = ("function", "custom", "mcp")
"""Tools with a name and arguments; others of the Responses API say what they do in fields of their own."""
NOTHING = [Answer("", "", [])]


def read(api: str, body: object) -> list[Answer]:
    output: list[Message] = endpoint(api).conversation(None, body).output
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
