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
from callspan.view.source import BadQueryError, View

_CALLS: Final = 1_000
"""Maximum number of calls of a session that are compared."""
_LINE: Final = 300
"""Maximum number of characters of an equal message."""
_TEXT: Final = 20_000
"""Maximum number of characters of other messages."""


class FactRow(msgspec.Struct):
    """A fact, parameter or tool of both, as text."""

    name: str
    status: Status
    a: str
    b: str
    against: str


class MessageRow(msgspec.Struct):
    """A message of one or both."""

    role: str
    status: Status
    against: str
    text: str
    """The common or only text; "" if they differ."""
    changes: list[TextRun]
    """The changes between different texts."""


class ComparePage(msgspec.Struct):
    """Two calls or sessions."""

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


def page(view: View) -> ComparePage:
    """Return the comparison of the calls or sessions `a` and `b`.

    Raises LookupError if one is missing, BadQueryError for a call and a session.
    """
    named = [look_up(view.reader, view.required(name)) for name in "ab"]
    a, b = (read_side(view.reader, one, _CALLS) for one in named)
    cut = any(isinstance(one, SessionSummary) and one.calls > _CALLS for one in named)
    if a.kind != b.kind:
        raise BadQueryError(f"A is a {a.kind} and B a {b.kind}: choose two calls or two sessions")
    found = diff(a, b)
    return ComparePage(
        kind=a.kind,
        ids=[a.id, b.id],
        facts=_rows(found.facts),
        parameters=_rows(found.parameters),
        tools=_rows(found.tools),
        messages=[_message(a, b, pair) for pair in found.messages],
        first=first_difference_text(found) if found.first_difference or not cut else "",
        cut=_CALLS if cut else None,
    )


def _rows(facts: Iterable[Fact]) -> list[FactRow]:
    return [
        FactRow(
            name=name_text(fact.name),
            status=fact.status,
            a=value_text(fact.name, fact.a)[:_TEXT],
            b=value_text(fact.name, fact.b)[:_TEXT],
            against=against_text(fact),
        )
        for fact in facts
    ]


def _message(a: Side, b: Side, pair: Pair) -> MessageRow:
    text = ""
    if pair.status != "differs":
        only = b.messages[pair.b or 0] if pair.a is None else a.messages[pair.a]
        text = text_of(only)[: _LINE if pair.status == "same" else _TEXT]
    changes = [TextRun(run.where, run.text[:_TEXT]) for run in pair.changes]
    return MessageRow(role=pair.role, status=pair.status, against=STATUS_WORDS[pair.status], text=text, changes=changes)
