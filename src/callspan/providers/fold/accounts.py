"""Accounts: joins what was streamed with what a later event states as a whole.

The stated account stands. What was streamed adds to it only what it lacks as content: a text that is not in it, a call
with another name or other arguments, counted, and fields that it leaves out. Keys decide nothing, because servers give
the same entry another id and another index in the last event. An account without content takes the streamed one's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from callspan.providers.fold.entries import MAX_SEARCHED, TEXTUAL
from callspan.providers.wire_json import detached

Json: TypeAlias = dict[str, Any]

TEXTS: Final = frozenset(
    {
        "arguments", "code", "completion", "content", "data", "input", "partial_json", "reasoning", "reasoning_content",
        "reasoning_text", "refusal", "stderr", "stdout", "summary", "text", "thinking", "transcript",
    }
)  # fmt: skip
"""Fields whose text is streamed in pieces."""
_LISTED: Final = frozenset({"content", "output", "summary", "tool_calls"})
"""Lists of entries that are streamed one by one and stated as a whole."""
_MARKS: Final = frozenset({"annotations", "citations"})
"""Lists of what a text refers to."""
_OF_MESSAGE: Final = frozenset({"content", "reasoning", "reasoning_content"})
"""Texts of a message that is one entry, so that what its account lacks has no other place."""
_POSITIONS: Final = frozenset({"end_index", "index", "start_index"})
_WORDS: Final = ("text", "refusal", "transcript", "thinking")
_PARTS: Final = ("summary", "content")
_ARGUMENTS: Final = ("arguments", "input", "action", "code", "queries", "operation")
_THOUGHTS: Final = frozenset({"reasoning", "reasoning_text", "redacted_thinking", "summary_text", "thinking"})
_IDS: Final = ("call_id", "id")
_NO_ARGUMENTS: Final = ("", "{}", "null")
_Test: TypeAlias = "Callable[[Content, Content], bool]"


class Content:
    """What an entry says, without its keys."""

    __slots__ = ("arguments", "family", "ids", "is_said", "name", "text")

    def __init__(self, entry: Json) -> None:
        inner = entry.get("function") or entry.get("custom")
        fields, kind = (inner, "function") if isinstance(inner, dict) else (entry, _kind(entry))
        self.family = "thought" if kind in _THOUGHTS else "text" if kind in TEXTUAL else str(kind)
        self.text = bare("".join(_words(entry))) if kind in TEXTUAL else ""
        """Its words without white space."""
        name = fields.get("name")
        self.name = name if isinstance(name, str) and name else None
        written = next((fields[key] for key in _ARGUMENTS if fields.get(key) is not None), "")
        self.arguments = "" if kind in TEXTUAL else normal(written)
        self.is_said = False
        """Whether its words are among those of the stated account."""
        self.ids = {entry[key] for key in _IDS if isinstance(entry.get(key), str) and entry[key]}

    @property
    def is_empty(self) -> bool:
        """Whether it has neither words nor arguments."""
        return not self.text and self.arguments in _NO_ARGUMENTS

    def is_like(self, other: Content) -> bool:
        """Return whether both are of one kind and, if calls, of one tool."""
        return self.family == other.family and (None in (self.name, other.name) or self.name == other.name)


def _kind(entry: Json) -> str | None:
    kind = entry.get("type")
    return kind if isinstance(kind, str) else None


def bare(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def normal(arguments: object) -> str:
    """Return arguments in one spelling of their JSON; what is no JSON, without white space."""
    try:
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return json.dumps(json.loads(written, parse_float=_number), sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return bare(str(arguments))


def _number(written: str) -> float:
    """Return a number, as an integer if it is one."""
    number = float(written)
    return int(number) if number.is_integer() else number


def _words(entry: Json) -> Iterator[str]:
    """Yield the texts of an entry: its own, and those of its parts."""
    yield from (entry[key] for key in _WORDS if isinstance(entry.get(key), str))
    for key in _PARTS:
        parts = entry.get(key)
        for part in parts if isinstance(parts, list) else (parts,):
            yield from _words(part) if isinstance(part, dict) else (part,) if isinstance(part, str) else ()


def says_the_same(one: object, other: object) -> bool:
    """Return whether two entries have the same content."""
    return isinstance(one, dict) and isinstance(other, dict) and _is_equal(Content(one), Content(other))


def _is_equal(held: Content, stated: Content) -> bool:
    return held.is_like(stated) and (held.text, held.arguments) == (stated.text, stated.arguments)


def _is_equal_by_id(held: Content, stated: Content) -> bool:
    return bool(held.ids & stated.ids) and _is_equal(held, stated)


def _is_filled_and_equal(held: Content, stated: Content) -> bool:
    return not held.is_empty and _is_equal(held, stated)


def _is_part_by_id(held: Content, stated: Content) -> bool:
    """Return whether one of two accounts with the same id is only a part of the other."""
    return bool(held.ids & stated.ids) and held.is_like(stated) and (_is_cut(held, stated) or _is_silent(held, stated))


def _is_hosted_by_id(held: Content, stated: Content) -> bool:
    """Return whether two accounts are of one hosted tool, of which events tell more and more."""
    return bool(held.ids & stated.ids) and held.is_like(stated) and not (held.name or held.text or stated.text)


def _is_restated_by_id(held: Content, stated: Content) -> bool:
    """Return whether the last account of an entry with this id says something else than was streamed."""
    is_renamed = held.arguments not in _NO_ARGUMENTS and held.arguments == stated.arguments
    is_same = held.is_like(stated) or (held.family == stated.family and is_renamed)
    return bool(held.ids & stated.ids) and is_same


def _is_restated_part(held: Content, stated: Content) -> bool:
    """Return whether both are texts of one kind, in two accounts of one entry."""
    return bool(held.text and stated.text) and not held.is_said and held.is_like(stated)


def _is_cut(held: Content, stated: Content) -> bool:
    """Return whether one account is the beginning of the other."""
    if not held.is_like(stated) or held.is_empty or stated.is_empty:
        return False
    if held.text or stated.text:
        return stated.text.startswith(held.text) or (not held.is_said and held.text.startswith(stated.text))
    return _begins(held.arguments, stated.arguments) or _begins(stated.arguments, held.arguments)


def _begins(cut: str, whole: str) -> bool:
    """Return whether arguments that are no JSON are the beginning of others."""
    try:
        json.loads(cut)
    except ValueError:
        return bare(whole).startswith(cut)
    return False


def _is_silent(held: Content, stated: Content) -> bool:
    """Return whether one of two accounts says nothing, and the other what is said nowhere else."""
    return not held.is_said and (held.is_empty or stated.is_empty)


def _is_generic(held: Content, stated: Content) -> bool:
    """Return whether one of two accounts of one kind says nothing."""
    is_silent = "" in (held.arguments, stated.arguments) if held.name or stated.name else _is_silent(held, stated)
    return held.is_like(stated) and is_silent


_TESTS: Final[tuple[_Test, ...]] = (
    _is_equal_by_id,
    _is_filled_and_equal,
    _is_part_by_id,
    _is_hosted_by_id,
    _is_restated_by_id,
    _is_cut,
    _is_generic,
)
"""When a streamed and a stated entry are one, the surest first."""


def joined_entries(streamed: list[Any], stated: list[Any], *, is_own: bool = False) -> list[Any]:
    """Return the stated entries, each with its streamed one, and what they lack at the place where it was streamed.

    `is_own`: whether they are the parts of one entry, as its id says.
    """
    if not all(isinstance(one, dict) for one in (*streamed, *stated)):
        return max(detached(stated), streamed, key=len)
    left = {at: (entry, Content(entry)) for at, entry in enumerate(streamed)}
    said = [Content(entry) for entry in stated]
    words = {family: "".join(one.text for one in said if one.family == family) for family in ("text", "thought")}
    for _, content in left.values():
        content.is_said = bool(content.text) and content.text in words.get(content.family, "")
    pairs = _pairs(left, said, (*_TESTS, _is_restated_part) if is_own else _TESTS)
    whole = [joined(pairs[at], entry) if at in pairs else detached(entry) for at, entry in enumerate(stated)]
    for at, (entry, content) in left.items():
        if _is_lacking(content, entry):
            whole.insert(at, entry)
    return whole


def _pairs(left: dict[int, tuple[Json, Content]], said: list[Content], tests: tuple[_Test, ...]) -> dict[int, Json]:
    """Take the streamed entry of each stated one; return them by its position."""
    pairs = dict[int, Json]()
    for are_one in tests:
        for place, content in enumerate(said):
            near = islice(left.items(), MAX_SEARCHED if place not in pairs else 0)
            at = next((at for at, (_, held) in near if are_one(held, content)), None)
            if at is not None:
                pairs[place] = left.pop(at)[0]
    return pairs


def _is_lacking(content: Content, entry: Json) -> bool:
    """Return whether the stated account lacks what an entry says."""
    if content.text:
        return not content.is_said
    return _kind(entry) not in TEXTUAL or any(entry.get(key) for key in ("encrypted_content", "data", "signature"))


def joined(streamed: Json, stated: Mapping[str, Any], *, is_last: bool = False) -> Json:
    """Return an object that was both streamed in pieces and stated as a whole by a later event.

    Stated values win, but for silent ones and for texts that were cut off. `is_last`: the event ends the object, so a
    text that it changes is no further piece.
    """
    result = {key: value for key, value in streamed.items() if key not in stated and key != "incomplete"}
    is_own = bool(stated.get("id")) and streamed.get("id") == stated.get("id")
    for key, value in stated.items():
        result[key] = _joined_value(key, streamed.get(key), value, is_own=is_own and key in _PARTS, is_last=is_last)
    moved = {key: stated.get(key) for key in _PARTS if streamed.get(key) and not stated.get(key)}
    if moved and _has_words_of(streamed, stated):
        result |= moved
    if "logprobs" in streamed and bare(str(result.get("text"))) != bare(str(streamed.get("text"))):
        result["logprobs"] = detached(stated.get("logprobs"))
    return result


def _joined_value(key: str, held: Any, value: Any, *, is_own: bool, is_last: bool) -> Any:
    if isinstance(value, list) and isinstance(held, list) and value and held:
        if key in _LISTED:
            return joined_entries(held, value, is_own=is_own)
        if key in _MARKS:
            return [*detached(value), *_unlike(held, value)]
        return max(detached(value), held, key=len) if key in ("data", "logprobs", "segments") else detached(value)
    if isinstance(value, str) and isinstance(held, str) and key in TEXTS:
        return _joined_text(held, value, can_be_piece=key in _OF_MESSAGE and not is_last)
    is_silent = value is None or value in ("", [], {})
    return held if is_silent and held is not None else detached(value)


def _joined_text(held: str, value: str, *, can_be_piece: bool) -> str:
    if held == value or bare(held) in bare(value):
        return value
    if bare(value) in bare(held) or value in _NO_ARGUMENTS:
        return held
    return held + value if can_be_piece else value


def _has_words_of(streamed: Json, stated: Mapping[str, Any]) -> bool:
    """Return whether the stated words contain the streamed ones, perhaps in another list of parts."""
    return bool(words := bare("".join(_words(dict(stated))))) and bare("".join(_words(streamed))) in words


def _unlike(held: list[Any], stated: list[Any]) -> list[Any]:
    """Return the marks that are not stated, wherever in the text."""
    said = list(map(_without_position, stated))
    return [mark for mark in held if _without_position(mark) not in said]


def _without_position(mark: object) -> object:
    return {key: value for key, value in mark.items() if key not in _POSITIONS} if isinstance(mark, dict) else mark
