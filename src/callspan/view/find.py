"""Find: searches for a text, grouped by session, and for records by id or user."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

import msgspec

from callspan.formatting import shown
from callspan.records import CallRecord, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, encode_json
from callspan.stores import CallFilter, Reader, instructions, spoken
from callspan.view.sessions import session_rows
from callspan.view.source import Row, View

_MAX_CALLS: Final = 200
"""Maximum number of calls with the text, newest first."""
_MAX_HITS: Final = 5
"""Maximum number of hits shown per session."""
_AROUND: Final = 60
"""Number of characters shown before a hit."""
_LENGTH: Final = 200
_MIN_ID_LENGTH: Final = 4
_ERRORS: Final = "errors"
_WHERE: Final = {"tool": "tool result"}
SCOPES: Final = ("messages", "answers", "questions", "tools", "reasoning", "instructions", "errors")


class Hit(msgspec.Struct):
    """An occurrence of the text."""

    call_id: str
    where: str
    """The role, `tool call`, `tool result`, `reasoning`, `instructions` or `error`."""
    text: str
    at: int
    """Its index in `text`."""
    length: int
    start_ns: int


class IdMatch(msgspec.Struct):
    """A record with this id or name."""

    kind: str
    """`session`, `call` or `user`."""
    id: str


class FoundSession(msgspec.Struct):
    """A session with hits, or calls outside of sessions."""

    id: str
    session: Row | None
    hits: list[Hit]
    more: int
    """Number of further hits."""


class FindPage(msgspec.Struct):
    """The results of a search."""

    exact: list[IdMatch]
    rows: list[FoundSession]
    more: bool
    """Whether there are older calls with the text."""
    text: str | None
    arguments: list[str]
    """Arguments of the command that finds the same calls."""


def page(view: View) -> FindPage:
    """Return the occurrences of the words in the filter line `q`; `scope` is one of `SCOPES`."""
    reader, selection = view.filtered()
    scope, text = view.query.get("scope", SCOPES[0]), selection.text
    if not text:
        return FindPage([], [], more=False, text=None, arguments=[])
    sought = {"text": None, "error_text": text, "content": "none"} if scope == _ERRORS else {}
    found = list(reader.calls(msgspec.structs.replace(selection, limit=_MAX_CALLS, **sought)))
    hits: dict[str, dict[tuple[str, str], Hit]] = {}
    for call in found:
        of = hits.setdefault(call.place.session_id or "", {})
        for hit in _hits(call, text.casefold(), scope):
            # Later calls repeat the message. The first call with it counts, which comes later here.
            of[hit.where, hit.call_id if scope == _ERRORS else hit.text] = hit
    return FindPage(
        _exact(view.reader, text),
        _rows(reader, hits),
        more=len(found) == _MAX_CALLS,
        text=text,
        arguments=_arguments(view, scope),
    )


def _arguments(view: View, scope: str) -> list[str]:
    """Return the arguments of the command that finds the same calls."""
    found = view.access.arguments(view.query.get("q", ""))
    given = "--text="
    if scope != _ERRORS:
        return found
    return [f"--error-text={one.removeprefix(given)}" if one.startswith(given) else one for one in found]


def _rows(reader: Reader, hits: dict[str, dict[tuple[str, str], Hit]]) -> list[FoundSession]:
    summaries = [one for session_id in hits if session_id and (one := reader.session(session_id)) is not None]
    rows = dict(zip((one.session.session_id for one in summaries), session_rows(reader, summaries), strict=True))
    found = []
    for session_id, of in hits.items():
        ordered = sorted(of.values(), key=lambda hit: hit.start_ns)
        if ordered:
            row = rows.get(session_id)
            found.append(FoundSession(session_id, row, ordered[:_MAX_HITS], max(0, len(ordered) - _MAX_HITS)))
    return found


def _exact(reader: Reader, word: str) -> list[IdMatch]:
    is_id = len(word) >= _MIN_ID_LENGTH and " " not in word
    session, call = (reader.session(word), reader.call(word)) if is_id else (None, None)
    user = next(reader.sessions(CallFilter(user_id=word, limit=1)), None)
    found = [] if session is None else [IdMatch("session", session.session.session_id)]
    found += [] if call is None else [IdMatch("call", call.call_id)]
    return found + ([] if user is None else [IdMatch("user", word)])


def _hits(call: CallRecord, text: str, scope: str) -> Iterator[Hit]:
    for where, words in _texts(call, scope):
        at = _position(words, text)
        if at is not None:
            first = max(0, at - _AROUND)
            before = shown(words[first:at]).lstrip() + (" " if at and words[at - 1].isspace() else "")
            before = f"\N{HORIZONTAL ELLIPSIS}{before}" if first else before
            excerpt = before + shown(words[at : at + _LENGTH], _LENGTH)
            yield Hit(call.call_id, where, excerpt, len(before), len(text), call.timing.start_ns)


def _position(words: str, text: str) -> int | None:
    """Return the index of a case-folded text, or None. Folding may turn one character into two."""
    folded = words.casefold()
    at = folded.find(text)
    if at < 0 or len(folded) == len(words):
        return None if at < 0 else at
    ends = accumulate(len(character.casefold()) for character in words)
    return next(number for number, end in enumerate(ends) if end > at)


def _texts(call: CallRecord, scope: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a call within the scope, each with its place."""
    if scope == _ERRORS:
        yield from () if call.error is None else [("error", f"{call.error.type}: {call.error.message or ''}")]
        return
    conversation = call.conversation
    if conversation is None:
        return
    if scope == "instructions":
        yield from (("instructions", one.text) for one in instructions(call) if isinstance(one, Text))
        return
    messages = conversation.output if scope == "answers" else [*spoken(call), *conversation.output]
    for message in messages:
        for part in message.parts:
            where, words = _words(message, part)
            if words and _is_in(scope, where):
                yield where, words


def _is_in(scope: str, where: str) -> bool:
    tools = {"tool call", "tool result"}
    wanted = {"answers": {"assistant"}, "questions": {"user"}, "tools": tools, "reasoning": {"reasoning"}}
    return where in wanted.get(scope, {where})


def _words(message: Message, part: Part) -> tuple[str, str]:
    match part:
        case Text(text=text) | Refusal(text=text):
            return _WHERE.get(message.role, message.role), text
        case Reasoning(text=text):
            return "reasoning", text or ""
        case ToolCall():
            return "tool call", f"{part.name or ''} {part.arguments or ''}"
        case ToolResult(content=content):
            return "tool result", content if isinstance(content, str) else encode_json(content).decode()
    return message.role, ""
