"""Streams of the wires whose blocks have starts and stops, written with the habits of servers.

An answer is written down once for each wire; what a reader must find is the answer. Indexes are proper, all zero,
counted on with each event, or absent; ids are of the start, of each piece, equal, or absent; blocks are stopped, or
only by what ends the answer; pieces repeat the name, or not.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.wire.generated_streams import Json, Piece, answer, cut

Habits = dict[str, Any]
Writer = Callable[[random.Random, list[Piece], Habits], list[Json]]


def habits(dice: random.Random) -> Habits:
    """The habits of one server, of which no two contradict each other."""
    chosen = {
        "index": dice.choice(("proper", "zero", "counting", "none")), "stops": dice.random() < 0.6,
        "ids": dice.choice(("start", "each", "same", "none")), "names": dice.random() < 0.3,
        "empty": dice.random() < 0.2,
    }  # fmt: skip
    if not chosen["stops"] and chosen["ids"] == "same":
        chosen["ids"] = "start"
    return chosen


def numbers(chosen: Habits, key: str) -> Callable[[int, bool], Json]:
    """The index of an event about a block of this number; `is_piece`: the event counts on."""
    counter = itertools.count()

    def at(number: int, is_piece: bool) -> Json:
        counted = next(counter) if is_piece or chosen["index"] == "counting" else 0
        habit = chosen["index"]
        return {} if habit == "none" else {key: {"proper": number, "zero": 0, "counting": counted}[habit]}

    return at


def identity(number: int, chosen: Habits, *, is_piece: bool = False) -> str | None:
    if chosen["ids"] == "none" or (is_piece and chosen["ids"] != "each"):
        return None
    return "call" if chosen["ids"] == "same" else f"call_{number}"


def stated(**fields: Any) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def converse(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    at, events = numbers(chosen, "contentBlockIndex"), list[Json]([{"messageStart": {"role": "assistant"}}])
    for number, piece in enumerate(pieces):
        if piece.kind == "call":
            start = stated(toolUseId=identity(number, chosen), name=piece.name)
            events.append({"contentBlockStart": {**at(number, False), "start": {"toolUse": start}}})
            again = stated(toolUseId=identity(number, chosen, is_piece=True))
            again |= {"name": piece.name} if chosen["names"] else {}
            deltas: list[Json] = [{"toolUse": {**again, "input": one}} for one in cut(dice, piece.arguments)]
        else:
            deltas = [
                {"text": one} if piece.kind == "text" else {"reasoningContent": {"text": one}}
                for one in cut(dice, piece.words)
            ]
            if chosen["empty"]:
                events.append({"contentBlockStart": {**at(number, False), "start": {}}})
        events += [{"contentBlockDelta": {**at(number, True), "delta": delta}} for delta in deltas]
        if chosen["stops"]:
            events.append({"contentBlockStop": at(number, False)})
    return [*events, {"messageStop": {"stopReason": "tool_use"}}, {"metadata": {"usage": {"inputTokens": 1}}}]


def cohere(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    at, events = numbers(chosen, "index"), list[Json]([{"type": "message-start", "id": "m", "delta": {"message": {}}}])
    at_call = numbers(chosen, "index")
    for number, piece in enumerate(pieces):
        if piece.kind == "call":
            named = {"name": piece.name} if chosen["names"] else {}
            start = stated(id=identity(number, chosen), type="function", function={"name": piece.name, "arguments": ""})
            again = stated(id=identity(number, chosen, is_piece=True))
            bodies = [
                start,
                *({**again, "function": {**named, "arguments": one}} for one in cut(dice, piece.arguments)),
            ]
            kind, key, place = "tool-call", "tool_calls", at_call
        else:
            name = "text" if piece.kind == "text" else "thinking"
            bodies = [{"type": name, name: ""}, *({name: one} for one in cut(dice, piece.words))]
            kind, key, place = "content", "content", at
        for step, body in enumerate(bodies):
            event = {"type": f"{kind}-{'delta' if step else 'start'}", "delta": {"message": {key: body}}}
            events.append({**event, **place(number, step > 0)})
        if chosen["stops"]:
            events.append({"type": f"{kind}-end", **place(number, False)})
    return [*events, {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}]


def cohere_v1(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    """A stream that was cut before the last event, which has the whole answer."""
    index = dice.choice(("proper", "zero", "none"))
    at, events = numbers({**chosen, "index": index}, "index"), list[Json]()
    events.append({"event_type": "stream-start", "generation_id": "g"})
    for number, piece in enumerate(pieces):
        if piece.kind != "call":
            events += [{"event_type": "text-generation", "text": one} for one in cut(dice, piece.words)]
            continue
        named = {"name": piece.name} if chosen["names"] and index != "none" else {}
        deltas: list[Json] = [
            {"name": piece.name},
            *({**named, "parameters": one} for one in cut(dice, piece.arguments)),
        ]
        events += [
            {"event_type": "tool-calls-chunk", "tool_call_delta": {**at(number, False), **delta}} for delta in deltas
        ]
    return events


def interactions(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    at, events = numbers(chosen, "index"), list[Json]()
    events.append({"event_type": "interaction.created", "interaction": {"id": "i", "status": "in_progress"}})
    for number, piece in enumerate(pieces):
        if piece.kind == "call":
            start = stated(type="function_call", id=identity(number, chosen), name=piece.name)
            again = stated(type="arguments_delta", id=identity(number, chosen, is_piece=True))
            deltas = [{**again, "arguments": one} for one in cut(dice, piece.arguments)]
        elif piece.kind == "text":
            start, deltas = {"type": "model_output"}, [{"type": "text", "text": one} for one in cut(dice, piece.words)]
        else:
            start = {"type": "thought"}
            parts = [{"type": "text", "text": one} for one in cut(dice, piece.words)]
            deltas = [{"type": "thought_summary", "content": part} for part in parts]
        events.append({"event_type": "step.start", **at(number, False), "step": start})
        events += [{"event_type": "step.delta", **at(number, True), "delta": delta} for delta in deltas]
        if chosen["stops"]:
            events.append({"event_type": "step.stop", **at(number, False)})
    return [*events, {"event_type": "interaction.completed", "interaction": {"id": "i", "status": "completed"}}]


def generate_content(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    parts = list[Json]()
    for number, piece in enumerate(pieces):
        if piece.kind != "call":
            thought = {"thought": True} if piece.kind == "thought" else {}
            parts += [{"text": one, **thought} for one in cut(dice, piece.words)]
            continue
        about = {"name": piece.name, **stated(id=identity(number, chosen))}
        again = dice.choice(({}, {"name": ""})) if not chosen["names"] else about
        steps = [{"jsonPath": "$.a", "stringValue": one, "willContinue": True} for one in cut(dice, piece.arguments)]
        parts.append({"functionCall": {**about, "willContinue": True}})
        parts += [{"functionCall": {**again, "partialArgs": [step], "willContinue": True}} for step in steps]
        parts.append({"functionCall": {**again}})
    chunks: list[Json] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    return [*chunks, {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]}]


def ollama(dice: random.Random, pieces: list[Piece], chosen: Habits) -> list[Json]:
    del chosen
    lines = list[Json]()
    for piece in pieces:
        if piece.kind == "call":
            lines.append({"tool_calls": [{"function": {"name": piece.name, "arguments": {"a": piece.arguments}}}]})
        else:
            name = "content" if piece.kind == "text" else "thinking"
            lines += [{name: one} for one in cut(dice, piece.words)]
    return [*({"message": {"role": "assistant", **line}} for line in lines), {"done": True, "message": {"content": ""}}]


WRITERS: dict[str, Writer] = {
    "converse": converse,
    "cohere_chat": cohere,
    "cohere_chat_v1": cohere_v1,
    "interactions": interactions,
    "generate_content": generate_content,
    "ollama_chat": ollama,
}
"""What writes the stream of an API, whose folds decide which block an event is about."""
NESTED = frozenset({"generate_content", "ollama_chat"})
"""Those whose arguments are written as the field `a` of the real ones."""


def written(api: str, count: int, seed: int = 92) -> Iterator[tuple[list[Json], list[Piece], Habits]]:
    """Yield streams of an API, always the same ones, with their answers and habits."""
    for number in range(count):
        dice = random.Random(f"{seed} {api} {number}")
        pieces, chosen = answer(dice), habits(dice)
        yield WRITERS[api](dice, pieces, chosen), pieces, chosen
