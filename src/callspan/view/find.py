"""Find: searches for a text, grouped by session, and for records by id or user."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

import msgspec

from callspan.formatting import excerpt
from callspan.records import CallRecord, Message, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, encode_json
from callspan.stores import CallFilter, Reader, instructions, spoken
from callspan.view.sessions import session_rows
from callspan.view.source import PageRequest, Row

_MAX_CALLS: Final = 200
"""Maximum number of calls with the text, newest first."""
_MAX_HITS: Final = 5
"""Maximum number of hits shown per session."""
_AROUND: Final = 60
"""Number of characters shown before a hit."""
_LENGTH: Final = 200
_MIN_ID_LENGTH: Final = 4
_ORDER: Final = "--sort="
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


def page(request: PageRequest) -> FindPage:
    """Return the occurrences of the words in the filter line `q`; `scope` is one of `SCOPES`."""
    reader, selection = request.filtered()
    scope, text = request.query.get("scope", SCOPES[0]), selection.text
    if not text:
        return FindPage([], [], more=False, text=None, arguments=[])
    error_conditions = {"text": None, "error_text": text, "content": "none"} if scope == _ERRORS else {}
    calls = list(reader.calls(msgspec.structs.replace(selection, limit=_MAX_CALLS, **error_conditions)))
    hits: dict[str, dict[tuple[str, str], Hit]] = {}
    for call in calls:
        session_hits = hits.setdefault(call.place.session_id or "", {})
        for hit in _hits(call, text.casefold(), scope):
            # Later calls repeat the message. The first call with it counts, which comes later here.
            session_hits[hit.where, hit.call_id if scope == _ERRORS else hit.text] = hit
    return FindPage(
        _exact(request.reader, text),
        _rows(reader, hits),
        more=len(calls) == _MAX_CALLS,
        text=text,
        arguments=_arguments(request, scope),
    )


def command(request: PageRequest) -> list[str]:
    """Return the arguments of the commands that select the calls of the filter line `q`, without their order.

    Raises BadQueryError where the list does.
    """
    request.filtered()
    arguments = request.access.arguments(request.query.get("q", ""))
    return [argument for argument in arguments if not argument.startswith(_ORDER)]


def _arguments(request: PageRequest, scope: str) -> list[str]:
    """Return the arguments of the command that finds the same calls."""
    arguments = request.access.arguments(request.query.get("q", ""))
    option = "--text="
    if scope != _ERRORS:
        return arguments
    return [
        f"--error-text={argument.removeprefix(option)}" if argument.startswith(option) else argument
        for argument in arguments
    ]


def _rows(reader: Reader, hits: dict[str, dict[tuple[str, str], Hit]]) -> list[FoundSession]:
    summaries = [summary for session_id in hits if session_id and (summary := reader.session(session_id)) is not None]
    rows = dict(
        zip((summary.session.session_id for summary in summaries), session_rows(reader, summaries), strict=True)
    )
    sessions = []
    for session_id, session_hits in hits.items():
        sorted_hits = sorted(session_hits.values(), key=lambda hit: hit.start_ns)
        if sorted_hits:
            row = rows.get(session_id)
            sessions.append(
                FoundSession(session_id, row, sorted_hits[:_MAX_HITS], max(0, len(sorted_hits) - _MAX_HITS))
            )
    return sessions


def _exact(reader: Reader, word: str) -> list[IdMatch]:
    is_id = len(word) >= _MIN_ID_LENGTH and " " not in word
    session, call = (reader.session(word), reader.call(word)) if is_id else (None, None)
    user = next(reader.sessions(CallFilter(user_id=word, limit=1)), None)
    matches = [] if session is None else [IdMatch("session", session.session.session_id)]
    matches += [] if call is None else [IdMatch("call", call.call_id)]
    return matches + ([] if user is None else [IdMatch("user", word)])


def _hits(call: CallRecord, text: str, scope: str) -> Iterator[Hit]:
    for source, words in _texts(call, scope):
        at = _position(words, text)
        if at is not None:
            start = max(0, at - _AROUND)
            prefix = excerpt(words[start:at]).lstrip() + (" " if at and words[at - 1].isspace() else "")
            prefix = f"\N{HORIZONTAL ELLIPSIS}{prefix}" if start else prefix
            text_around = prefix + excerpt(words[at : at + _LENGTH], _LENGTH)
            yield Hit(call.call_id, source, text_around, len(prefix), len(text), call.timing.start_ns)


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
        yield from (("instructions", part.text) for part in instructions(call) if isinstance(part, Text))
        return
    messages = conversation.output if scope == "answers" else [*spoken(call), *conversation.output]
    for message in messages:
        for part in message.parts:
            source, words = _words(message, part)
            if words and _is_in(scope, source):
                yield source, words


def _is_in(scope: str, source: str) -> bool:
    tools = {"tool call", "tool result"}
    sources_by_scope = {"answers": {"assistant"}, "questions": {"user"}, "tools": tools, "reasoning": {"reasoning"}}
    return source in sources_by_scope.get(scope, {source})


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
