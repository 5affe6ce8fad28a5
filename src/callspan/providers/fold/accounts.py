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
from callspan.providers.wire_json import Json, detached

TEXTS: Final = frozenset(
    {
        "arguments", "code", "completion", "content", "data", "input", "partial_json", "reasoning", "reasoning_content",
        "reasoning_text", "refusal", "stderr", "stdout", "summary", "text", "thinking", "transcript",
    }
)  # fmt: skip
"""Fields with a text that is streamed in pieces."""
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
        arguments = next((fields[key] for key in _ARGUMENTS if fields.get(key) is not None), "")
        self.arguments = "" if kind in TEXTUAL else normal(arguments)
        self.is_said = False
        """Whether the stated account has its words."""
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
        encoded = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return json.dumps(json.loads(encoded, parse_float=_number), sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return bare(str(arguments))


def _number(digits: str) -> float:
    """Return a number, as an integer if it is one."""
    number = float(digits)
    return int(number) if number.is_integer() else number


def _words(entry: Json) -> Iterator[str]:
    """Yield the texts of an entry and of its parts."""
    yield from (entry[key] for key in _WORDS if isinstance(entry.get(key), str))
    for key in _PARTS:
        parts = entry.get(key)
        for part in parts if isinstance(parts, list) else (parts,):
            yield from _words(part) if isinstance(part, dict) else (part,) if isinstance(part, str) else ()


def says_the_same(entry: object, other_entry: object) -> bool:
    """Return whether two entries have the same content."""
    return isinstance(entry, dict) and isinstance(other_entry, dict) and _is_equal(Content(entry), Content(other_entry))


def begins_another(entry: object, start: Json) -> bool:
    """Return whether a start is of another entry than the one with its id, as servers name all alike.

    A start that is repeated names the same call, and comes before the entry has grown.
    """
    if not isinstance(entry, dict):
        return False
    calls = entry.get(_IDS[0]), start.get(_IDS[0])
    grown, begun = Content(entry), Content(start)
    return (all(calls) and calls[0] != calls[1]) or (
        bool(grown.text or grown.arguments) and not (begun.text or begun.arguments)
    )


def _is_equal(streamed: Content, final: Content) -> bool:
    return streamed.is_like(final) and (streamed.text, streamed.arguments) == (final.text, final.arguments)


def _is_equal_by_id(streamed: Content, final: Content) -> bool:
    return bool(streamed.ids & final.ids) and _is_equal(streamed, final)


def _is_equal_call_or_text(streamed: Content, final: Content) -> bool:
    if not streamed.is_empty:
        return _is_equal(streamed, final)
    return streamed.name is not None and streamed.name == final.name and streamed.is_like(final) and final.is_empty


def _is_part_by_id(streamed: Content, final: Content) -> bool:
    """Return whether one of two accounts with the same id is only a part of the other."""
    return (
        bool(streamed.ids & final.ids)
        and streamed.is_like(final)
        and (_is_cut(streamed, final) or _is_silent(streamed, final))
    )


def _is_hosted_by_id(streamed: Content, final: Content) -> bool:
    """Return whether two accounts describe the same run of a hosted tool, the later one more fully."""
    return (
        bool(streamed.ids & final.ids)
        and streamed.is_like(final)
        and not (streamed.name or streamed.text or final.text)
    )


def _is_restated_by_id(streamed: Content, final: Content) -> bool:
    """Return whether the last account of an entry with this id says something else than was streamed."""
    is_renamed = streamed.arguments not in _NO_ARGUMENTS and streamed.arguments == final.arguments
    is_same = streamed.is_like(final) or (streamed.family == final.family and is_renamed)
    return bool(streamed.ids & final.ids) and is_same


def _is_restated_part(streamed: Content, final: Content) -> bool:
    """Return whether both are texts of one kind, in two accounts of one entry."""
    return bool(streamed.text and final.text) and not streamed.is_said and streamed.is_like(final)


def _is_cut(streamed: Content, final: Content) -> bool:
    """Return whether one account is the beginning of the other."""
    if not streamed.is_like(final) or streamed.is_empty or final.is_empty:
        return False
    if streamed.text or final.text:
        return final.text.startswith(streamed.text) or (not streamed.is_said and streamed.text.startswith(final.text))
    return _begins(streamed.arguments, final.arguments) or _begins(final.arguments, streamed.arguments)


def _begins(prefix: str, arguments: str) -> bool:
    """Return whether arguments that are no JSON are the beginning of others."""
    try:
        json.loads(prefix)
    except ValueError:
        return bare(arguments).startswith(prefix)
    return False


def _is_silent(streamed: Content, final: Content) -> bool:
    """Return whether one of two accounts says nothing, and the other what is said nowhere else."""
    return not streamed.is_said and (streamed.is_empty or final.is_empty)


def _is_generic(streamed: Content, final: Content) -> bool:
    """Return whether one of two accounts of one kind says nothing."""
    is_silent = (
        "" in (streamed.arguments, final.arguments) if streamed.name or final.name else _is_silent(streamed, final)
    )
    return streamed.is_like(final) and is_silent


_TESTS: Final[tuple[_Test, ...]] = (
    _is_equal_by_id,
    _is_equal_call_or_text,
    _is_part_by_id,
    _is_hosted_by_id,
    _is_restated_by_id,
    _is_cut,
    _is_generic,
)
"""When a streamed and a stated entry are one, the surest first."""


def joined_entries(streamed: list[Any], final: list[Any], *, is_own: bool = False) -> list[Any]:
    """Return the stated entries, each with its streamed one, and what they lack at the place where it was streamed.

    `is_own`: whether they are the parts of one entry, as its id says.
    """
    if not all(isinstance(item, dict) for item in (*streamed, *final)):
        return max(detached(final), streamed, key=len)
    unpaired = {at: (entry, Content(entry)) for at, entry in enumerate(streamed)}
    contents = [Content(entry) for entry in final]
    words = {family: "".join(item.text for item in contents if item.family == family) for family in ("text", "thought")}
    for _, content in unpaired.values():
        content.is_said = bool(content.text) and content.text in words.get(content.family, "")
    pairs = _pairs(unpaired, contents, (*_TESTS, _is_restated_part) if is_own else _TESTS)
    entries = [joined(pairs[at], entry) if at in pairs else detached(entry) for at, entry in enumerate(final)]
    for at, (entry, content) in unpaired.items():
        if _is_lacking(content, entry):
            entries.insert(at, entry)
    return entries


def _pairs(
    unpaired: dict[int, tuple[Json, Content]], contents: list[Content], tests: tuple[_Test, ...]
) -> dict[int, Json]:
    """Take the streamed entry of each stated one; return them by its position."""
    pairs = dict[int, Json]()
    for are_one in tests:
        for index, content in enumerate(contents):
            near = islice(unpaired.items(), MAX_SEARCHED if index not in pairs else 0)
            at = next((at for at, (_, candidate) in near if are_one(candidate, content)), None)
            if at is not None:
                pairs[index] = unpaired.pop(at)[0]
    return pairs


def _is_lacking(content: Content, entry: Json) -> bool:
    """Return whether the stated account lacks what an entry says."""
    if content.text:
        return not content.is_said
    return _kind(entry) not in TEXTUAL or any(entry.get(key) for key in ("encrypted_content", "data", "signature"))


def joined(streamed: Json, final: Mapping[str, Any], *, is_last: bool = False) -> Json:
    """Return an object that was both streamed in pieces and stated as a whole by a later event.

    Stated values win, but for silent ones and for texts that were cut off. `is_last`: the event ends the object, so a
    text that it changes is no further piece.
    """
    result = {key: value for key, value in streamed.items() if key not in final and key != "incomplete"}
    is_own = bool(final.get("id")) and streamed.get("id") == final.get("id")
    for key, value in final.items():
        result[key] = _joined_value(key, streamed.get(key), value, is_own=is_own and key in _PARTS, is_last=is_last)
    parts = {key: final.get(key) for key in _PARTS if streamed.get(key) and not final.get(key)}
    if parts and _has_words_of(streamed, final):
        result |= parts
    if "logprobs" in streamed and bare(str(result.get("text"))) != bare(str(streamed.get("text"))):
        result["logprobs"] = detached(final.get("logprobs"))
    return result


def _joined_value(key: str, streamed: Any, final: Any, *, is_own: bool, is_last: bool) -> Any:
    if isinstance(final, list) and isinstance(streamed, list) and final and streamed:
        if key in _LISTED:
            return joined_entries(streamed, final, is_own=is_own)
        if key in _MARKS:
            return [*detached(final), *_unlike(streamed, final)]
        return max(detached(final), streamed, key=len) if key in ("data", "logprobs", "segments") else detached(final)
    if isinstance(final, str) and isinstance(streamed, str) and key in TEXTS:
        return _joined_text(streamed, final, can_be_piece=key in _OF_MESSAGE and not is_last)
    is_silent = final is None or final in ("", [], {})
    return streamed if is_silent and streamed is not None else detached(final)


def _joined_text(streamed: str, final: str, *, can_be_piece: bool) -> str:
    if streamed == final or bare(streamed) in bare(final):
        return final
    if bare(final) in bare(streamed) or final in _NO_ARGUMENTS:
        return streamed
    return streamed + final if can_be_piece else final


def _has_words_of(streamed: Json, final: Mapping[str, Any]) -> bool:
    """Return whether the stated words contain the streamed ones, perhaps in another list of parts."""
    return bool(words := bare("".join(_words(dict(final))))) and bare("".join(_words(streamed))) in words


def _unlike(streamed: list[Any], final: list[Any]) -> list[Any]:
    """Return the marks that are not stated, wherever in the text."""
    final_marks = list(map(_without_position, final))
    return [mark for mark in streamed if _without_position(mark) not in final_marks]


def _without_position(mark: object) -> object:
    return {key: value for key, value in mark.items() if key not in _POSITIONS} if isinstance(mark, dict) else mark
