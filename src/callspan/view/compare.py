"""Compare: two calls or two sessions side by side, as in `callspan show A B`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from callspan.comparison.diff import (
    STATUS_WORDS,
    Fact,
    Pair,
    Status,
    TextRun,
    against_text,
    diff,
    first_difference_text,
    name_text,
    value_text,
)
from callspan.comparison.sides import Side, read_side, text_of
from callspan.stores import SessionSummary, look_up
from callspan.view.source import BadQueryError, PageRequest

_MAX_CALLS: Final = 1_000
"""How many calls of a session are compared."""
_MAX_EQUAL_TEXT: Final = 300
"""Maximum number of characters of an equal message."""
_MAX_TEXT: Final = 20_000
"""Maximum number of characters of other messages."""


class FactRow(msgspec.Struct):
    """A fact, parameter or tool on both sides, as text."""

    name: str
    status: Status
    a: str
    b: str
    against: str


class MessageRow(msgspec.Struct):
    """A message on one side, or a pair of messages."""

    role: str
    status: Status
    against: str
    text: str
    """The text of equal messages or of a single one; "" if two differ."""
    changes: list[TextRun]
    """The changes between different texts."""


class ComparePage(msgspec.Struct):
    """The comparison of two calls or two sessions."""

    kind: str
    ids: list[str]
    facts: list[FactRow]
    parameters: list[FactRow]
    tools: list[FactRow]
    messages: list[MessageRow]
    first: str
    """A sentence about the first difference."""
    cut: int | None
    """Number of calls compared per session, if limited; None: all."""


def page(request: PageRequest) -> ComparePage:
    """Return the comparison of the calls or sessions `a` and `b`.

    Raises LookupError if one is missing, BadQueryError for a call and a session.
    """
    compared = [look_up(request.reader, request.required(name)) for name in "ab"]
    a, b = (read_side(request.reader, item, _MAX_CALLS) for item in compared)
    cut = any(isinstance(item, SessionSummary) and item.calls > _MAX_CALLS for item in compared)
    if a.kind != b.kind:
        raise BadQueryError(f"A is a {a.kind} and B a {b.kind}: choose two calls or two sessions")
    differences = diff(a, b)
    return ComparePage(
        kind=a.kind,
        ids=[a.id, b.id],
        facts=_rows(differences.facts),
        parameters=_rows(differences.parameters),
        tools=_rows(differences.tools),
        messages=[_message(a, b, pair) for pair in differences.messages],
        first=first_difference_text(differences) if differences.first_difference or not cut else "",
        cut=_MAX_CALLS if cut else None,
    )


def _rows(facts: Iterable[Fact]) -> list[FactRow]:
    return [
        FactRow(
            name=name_text(fact.name),
            status=fact.status,
            a=value_text(fact.name, fact.a)[:_MAX_TEXT],
            b=value_text(fact.name, fact.b)[:_MAX_TEXT],
            against=against_text(fact),
        )
        for fact in facts
    ]


def _message(a: Side, b: Side, pair: Pair) -> MessageRow:
    text = ""
    if pair.status != "differs":
        message = b.messages[pair.b or 0] if pair.a is None else a.messages[pair.a]
        text = text_of(message)[: _MAX_EQUAL_TEXT if pair.status == "same" else _MAX_TEXT]
    changes = [TextRun(run.where, run.text[:_MAX_TEXT]) for run in pair.changes]
    return MessageRow(role=pair.role, status=pair.status, against=STATUS_WORDS[pair.status], text=text, changes=changes)
