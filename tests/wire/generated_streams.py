"""Generated streams: an answer written down as servers write it, with their habits of numbering and naming.

The answer is known, so that the stream has a truth besides the oracle's reading. Every habit is one that a server has:
indexes that are all zero, or count up with each delta; ids that are missing, empty, of every event, or new in the
terminal event; starts and ends that are missing, starts that come twice; a last account that is empty, hollow, lacks a
call or has another text; an attempt that was given up before.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima")


@dataclass(frozen=True)
class Piece:
    """One text, thought or call of an answer."""

    kind: str
    words: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True)
class Stream:
    """The events of a stream, and what they say."""

    api: str
    events: list[Json]
    pieces: list[Piece]
    """What a reader must find, in order."""
    habits: dict[str, Any] = field(default_factory=dict)


def streams(count: int, seed: int = 75) -> Iterator[Stream]:
    """Yield streams of the three wires, always the same ones."""
    makers = itertools.cycle((messages, responses, chat))
    for number in range(count):
        yield next(makers)(random.Random(f"{seed} {number}"))


def answer(dice: random.Random, least: int = 1) -> list[Piece]:
    """An answer of texts, thoughts and calls, no text within another; some calls are equal."""
    words = list(WORDS)
    dice.shuffle(words)
    pieces: list[Piece] = []
    for number in range(dice.randint(least, 4)):
        kind = dice.choice(("text", "thought", "call"))
        if kind != "call":
            pieces.append(Piece(kind, f"{words.pop()} {words.pop()}{number}. "))
        elif pieces and pieces[-1].kind == "call" and dice.random() < 0.3:
            pieces.append(pieces[-1])
        else:
            pieces.append(Piece("call", name=dice.choice(("get_weather", "search")), arguments=arguments(dice)))
    return pieces


def arguments(dice: random.Random) -> str:
    if dice.random() < 0.1:
        return "{}"
    return json.dumps({dice.choice("abc"): dice.choice((1, "x", None, {"d": [1, 2]})), "of": dice.choice(WORDS)})


def cut(dice: random.Random, text: str) -> list[str]:
    """A text in pieces that are not empty."""
    at = sorted({0, len(text), *(dice.randrange(len(text)) for _ in range(dice.randint(0, 3)))})
    return [text[start:end] for start, end in itertools.pairwise(at)]


# Messages


def messages(dice: random.Random) -> Stream:
    """Blocks, each with its start, deltas and stop."""
    pieces = answer(dice)
    habits = {
        "index": dice.choice(("proper", "zero", "counting", "none")), "stops": dice.random() < 0.7,
        "starts": dice.choice(("all", "calls")), "attempt": attempt(dice, 0.2), "ids": dice.choice(("own", "same")),
        "twice": dice.random() < 0.2,
    }  # fmt: skip
    events, written = [message_start("m")], pieces
    if habits["attempt"]:
        written = [Piece("text", "given up. "), *pieces]
        habits["starts"] = "all"
    index = 0
    for number, piece in enumerate(written):
        if habits["attempt"] and number == 1:
            events.append(message_start(habits["attempt"]))
        for event in block(dice, piece, number, habits):
            at = {"proper": number, "zero": 0, "counting": index, "none": None}[habits["index"]]
            index += event["type"] == "content_block_delta"
            events.append({**event, "index": at})
        index += 1
    events += [
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return Stream("messages", events, written if habits["attempt"] == "m" else pieces, habits)


def attempt(dice: random.Random, share: float) -> str | None:
    """The id of the answer after an attempt that was given up, whose id is m; None if there was none."""
    return dice.choice(("m", "other")) if dice.random() < share else None


def message_start(identity: str) -> Json:
    usage = {"input_tokens": 3, "output_tokens": 0}
    return {"type": "message_start", "message": {"id": identity, "type": "message", "content": [], "usage": usage}}


def block(dice: random.Random, piece: Piece, number: int, habits: Json) -> Iterator[Json]:
    identity = "toolu" if habits["ids"] == "same" and habits["stops"] else f"toolu_{number}"
    opening: Json = {
        "text": {"type": "text", "text": ""},
        "thought": {"type": "thinking", "thinking": "", "signature": ""},
        "call": {"type": "tool_use", "id": identity, "name": piece.name, "input": {}},
    }[piece.kind]
    if piece.kind == "call" or habits["starts"] == "all":
        yield {"type": "content_block_start", "content_block": opening}
    if piece.kind == "call" and habits["twice"]:
        if habits["stops"]:
            yield {"type": "content_block_stop"}
        yield {"type": "content_block_start", "content_block": opening}
    kind, key = {
        "text": ("text_delta", "text"),
        "thought": ("thinking_delta", "thinking"),
        "call": ("input_json_delta", "partial_json"),
    }[piece.kind]
    for one in cut(dice, piece.words or piece.arguments):
        yield {"type": "content_block_delta", "delta": {"type": kind, key: one}}
    if habits["stops"]:
        yield {"type": "content_block_stop"}


# Responses


def responses(dice: random.Random) -> Stream:
    """Items with parts, and an end that states them once more."""
    pieces = answer(dice)
    habits = {
        "index": dice.choice(("proper", "zero", "none")), "content_index": dice.choice(("proper", "counting", "none")),
        "ids": dice.choice(("own", "every event", "none", "empty", "same")), "starts": dice.random() < 0.8,
        "parts": dice.random() < 0.7, "text_done": dice.random() < 0.6, "part_done": dice.random() < 0.6,
        "item_done": dice.random() < 0.7, "attempt": attempt(dice, 0.15),
        "end": dice.choice(("whole", "renamed", "split", "empty", "hollow", "missing", "lacks a call", "none")),
    }  # fmt: skip
    if habits["ids"] == "every event":
        habits["starts"] = True
    if habits["ids"] == "every event" or not habits["starts"]:
        habits["index"] = "proper"
    if not habits["starts"]:
        habits["item_done"] = True
    written = pieces
    if habits["attempt"]:
        written = [Piece("text", "given up. "), *pieces]
    events: list[Json] = [started("response.created", "m")]
    for number, piece in enumerate(written):
        if habits["attempt"] and number == 1:
            events.append(started("response.created", habits["attempt"]))
        events += item_events(dice, piece, number, habits)
    stated = list(pieces)
    calls = [piece for piece in pieces if piece.kind == "call"]
    if habits["end"] == "lacks a call" and calls:
        stated.remove(calls[-1])
    elif habits["end"] == "lacks a call":
        habits["end"] = "whole"
    events += ending(dice, stated, habits)
    return Stream("responses", events, written if habits["attempt"] == "m" else pieces, habits)


def started(kind: str, identity: str) -> Json:
    return {"type": kind, "response": {"id": identity, "object": "response", "status": "in_progress", "output": []}}


def item_id(number: int, habits: Json, dice: random.Random) -> Json:
    habit = habits["ids"]
    if habit == "none":
        return {}
    names = {"own": f"item_{number}", "empty": "", "same": "item", "every event": f"i{dice.random()}"}
    return {"item_id": names[habit]}


def item_events(dice: random.Random, piece: Piece, number: int, habits: Json) -> Iterator[Json]:
    at = {"proper": {"output_index": number}, "zero": {"output_index": 0}, "none": {}}[habits["index"]]
    opening, whole = item(piece, ""), item(piece, piece.words or piece.arguments)

    def about(kind: str, **more: Any) -> Json:
        return {"type": f"response.{kind}", **at, **item_id(number, habits, dice), **more}

    def of_item(kind: str, body: Json) -> Json:
        named = item_id(number, habits, dice)
        return {"type": f"response.{kind}", **at, "item": {**body, **({"id": named["item_id"]} if named else {})}}

    if habits["starts"] or (piece.kind == "call" and not habits["item_done"]):
        yield of_item("output_item.added", {**opening, "status": "in_progress"})
    yield from filling(dice, piece, habits, about)
    if habits["item_done"]:
        yield of_item("output_item.done", {**whole, "status": "completed"})


def filling(dice: random.Random, piece: Piece, habits: Json, about: Any) -> Iterator[Json]:
    if piece.kind == "call":
        for one in cut(dice, piece.arguments):
            yield about("function_call_arguments.delta", delta=one)
        if habits["text_done"]:
            yield about("function_call_arguments.done", arguments=piece.arguments)
        return
    kind, part = ("output_text", "output_text") if piece.kind == "text" else ("reasoning_text", "reasoning_text")
    index = itertools.count()
    place = {
        "proper": lambda: {"content_index": 0}, "counting": lambda: {"content_index": next(index)}, "none": dict,
    }[habits["content_index"]]  # fmt: skip
    if habits["parts"]:
        yield about("content_part.added", **place(), part={"type": part, "text": ""})
    for one in cut(dice, piece.words):
        yield about(f"{kind}.delta", **place(), delta=one)
    if habits["text_done"]:
        yield about(f"{kind}.done", **place(), text=piece.words)
    if habits["part_done"] and habits["parts"]:
        yield about("content_part.done", **place(), part={"type": part, "text": piece.words})


def item(piece: Piece, words: str) -> Json:
    if piece.kind == "call":
        return {"type": "function_call", "call_id": "", "name": piece.name, "arguments": words}
    part = "output_text" if piece.kind == "text" else "reasoning_text"
    content = [{"type": part, "text": words, "annotations": []}] if words else []
    kind = {"text": {"type": "message", "role": "assistant"}, "thought": {"type": "reasoning", "summary": []}}
    return {**kind[piece.kind], "content": content}


def ending(dice: random.Random, stated: list[Piece], habits: Json) -> Iterator[Json]:
    """The terminal event, if there is one."""
    end = habits["end"]
    if end == "none":
        return
    output = [item(piece, piece.words or piece.arguments) for piece in stated]
    if end in ("empty", "missing"):
        output = []
    if end == "hollow":
        output = [{"type": "message", "id": "h", "content": [{"type": "output_text", "text": ""}]}]
    if end == "split":
        output = [split(dice, one) for one in output]
    if end == "whole" and habits["ids"] == "own":
        output = [{**one, "id": f"item_{number + bool(habits['attempt'])}"} for number, one in enumerate(output)]
    if end in ("renamed", "split"):
        output = [{**one, "id": f"other_{number}"} for number, one in enumerate(output)]
    body: Json = {"id": habits["attempt"] or "m", "object": "response", "status": "completed", "output": output}
    if end == "missing":
        del body["output"]
    yield {"type": "response.completed", "response": body}


def split(dice: random.Random, one: Json) -> Json:
    """An item whose text is in several parts."""
    if "content" not in one:
        return one
    parts = [{**part, "text": piece} for part in one["content"] for piece in cut(dice, part["text"])]
    return {**one, "content": parts}


# Chat


def chat(dice: random.Random) -> Stream:
    """Deltas of one choice, whose calls are numbered and named as servers do."""
    pieces = answer(dice)
    habits = {
        "index": dice.choice(("proper", "zero", "none", "missing")),
        "ids": dice.choice(("first", "every", "none", "empty")), "name": dice.choice(("first", "every", "pieces")),
        "whole": dice.random() < 0.3, "merged": dice.random() < 0.3, "second": dice.random() < 0.2,
        "restated": dice.random() < 0.1,
    }  # fmt: skip
    if habits["name"] == "every" and habits["ids"] != "every":
        habits["name"] = "first"
    if habits["name"] == "pieces" and (habits["index"] != "proper" and habits["ids"] not in ("first", "every")):
        habits["name"] = "first"
    deltas = [delta for number, delta in enumerate(chat_deltas(dice, pieces, habits))]
    if habits["merged"]:
        deltas = merged(deltas)
    chunks = [chunk(0, delta) for delta in [{"role": "assistant", "content": ""}, *deltas]]
    if habits["second"]:
        chunks = [{**one, "choices": [*one["choices"], *chunk(1, {"content": "z"})["choices"]]} for one in chunks]
    ordered = sorted(pieces, key=lambda piece: ("thought", "text", "call").index(piece.kind))
    chunks.append(chunk(0, {}, "stop"))
    if habits["restated"]:
        ordered = [replace(piece, words=piece.words.upper()) if piece.kind == "text" else piece for piece in ordered]
        chunks[-1]["choices"][0]["message"] = message_of(ordered)
    if habits["second"]:
        chunks.append(chunk(1, {}, "stop"))
    return Stream("chat_completions", chunks, ordered, habits)


def message_of(pieces: list[Piece]) -> Json:
    """All of a choice, whose calls have other ids than in the deltas, and once more the first as that of old models."""
    words = {kind: "".join(piece.words for piece in pieces if piece.kind == kind) for kind in ("text", "thought")}
    calls = [{"name": piece.name, "arguments": piece.arguments} for piece in pieces if piece.kind == "call"]
    message: Json = {"content": words["text"] or None, "reasoning_content": words["thought"]}
    if calls:
        message["function_call"] = calls[0]
        message["tool_calls"] = [{"id": f"z{at}", "type": "function", "function": one} for at, one in enumerate(calls)]
    return message


def chunk(index: int, delta: Json, reason: str | None = None) -> Json:
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def chat_deltas(dice: random.Random, pieces: list[Piece], habits: Json) -> Iterator[Json]:
    number = 0
    for piece in pieces:
        if piece.kind == "call":
            yield from ({"tool_calls": [one]} for one in call_deltas(dice, piece, number, habits))
            number += 1
            continue
        key = {"text": "content", "thought": "reasoning_content"}[piece.kind]
        yield from ({key: one} for one in cut(dice, piece.words))


def call_deltas(dice: random.Random, piece: Piece, number: int, habits: Json) -> Iterator[Json]:
    at = {"proper": {"index": number}, "zero": {"index": 0}, "none": {"index": None}, "missing": {}}[habits["index"]]
    named = {"id": {"none": None, "empty": ""}.get(habits["ids"], f"call_{number}")}
    if habits["ids"] == "none":
        named = {}
    parts = [piece.arguments] if habits["whole"] else cut(dice, piece.arguments)
    names = cut(dice, piece.name) if habits["name"] == "pieces" else [piece.name]
    for place, name in enumerate(names):
        is_last = place == len(names) - 1
        yield {
            **at, **(named if not place or habits["ids"] == "every" else {}), "type": "function",
            "function": {"name": name, "arguments": parts[0] if is_last else ""},
        }  # fmt: skip
    for one in parts[1:]:
        again = {"name": piece.name} if habits["name"] == "every" else {}
        yield {**at, **(named if habits["ids"] == "every" else {}), "function": {**again, "arguments": one}}


def merged(deltas: list[Json]) -> list[Json]:
    """Neighbouring pieces of calls in one delta."""
    made: list[Json] = []
    for delta in deltas:
        if made and "tool_calls" in made[-1] and "tool_calls" in delta:
            made[-1]["tool_calls"] += delta["tool_calls"]
        else:
            made.append(delta)
    return made
