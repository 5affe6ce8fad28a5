"""Diff: compares two calls or two sessions: fields, parameters, tools and messages, and their first difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Literal, TypeAlias

import msgspec

from callspan.comparison.sides import Side, text_of
from callspan.comparison.text_changes import TextRun, text_changes
from callspan.records import Message

Section: TypeAlias = Literal["parameters", "tools", "messages"]
Status: TypeAlias = Literal["same", "differs", "only_a", "only_b"]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One field, parameter or tool of both sides."""

    name: str
    status: Status
    a: object = None
    b: object = None

    @property
    def difference(self) -> int | Decimal | float | None:
        """B minus A; None if they are equal or not numbers."""
        a, b = self.a, self.b
        if self.status != "differs" or isinstance(a, bool) or isinstance(b, bool):
            return None
        if isinstance(a, Decimal) and isinstance(b, Decimal):
            return b - a
        return b - a if isinstance(a, (int, float)) and isinstance(b, (int, float)) else None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One message of both sides, or of one."""

    role: str
    status: Status
    a: int | None = None
    """Its index in the messages of A, if it is there."""
    b: int | None = None
    changes: list[TextRun] = []
    """For messages that differ: the runs of both texts."""


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two calls or two sessions."""

    a: Side
    b: Side
    facts: list[Fact]
    parameters: list[Fact]
    tools: list[Fact]
    messages: list[Pair]

    @property
    def first_difference(self) -> tuple[Section, int] | None:
        """The section, and the index in it, of the first difference of requests and answers, if any.

        Facts are ignored: two calls never take the same time.
        """
        sections: dict[Section, Sequence[Fact | Pair]]
        sections = {"parameters": self.parameters, "tools": self.tools, "messages": self.messages}
        differing = (
            (name, at) for name, rows in sections.items() for at, row in enumerate(rows) if row.status != "same"
        )
        return next(differing, None)


def diff(a: Side, b: Side) -> Diff:
    """Compare two calls or two sessions; differing messages by words or lines. Ids of tool calls are ignored.

    Example:
        >>> found = diff(side_of_call(one, one.conversation), side_of_call(other, other.conversation))
        >>> found.first_difference
        ('messages', 0)
    """
    return Diff(
        a=a,
        b=b,
        facts=[*_rows(a.facts, b.facts)],
        parameters=[*_rows(a.parameters, b.parameters)],
        tools=[*_rows(a.tools, b.tools)],
        messages=[*_pairs(a.messages, b.messages)],
    )


def _rows(a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[Fact]:
    """Yield the fields of both sides, in the order of A, then B, except those unknown on both."""
    for name in dict.fromkeys([*a, *b]):
        first, second = a.get(name), b.get(name)
        if first is not None or second is not None:
            yield Fact(name=name, status=_status(first, second), a=first, b=second)


def _status(a: object, b: object) -> Status:
    if a == b:
        return "same"
    return "only_b" if a is None else "only_a" if b is None else "differs"


def _pairs(a: list[Message], b: list[Message]) -> Iterator[Pair]:
    keys = [[(message.role, text_of(message)) for message in side] for side in (a, b)]
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        rows = zip_longest(range(a_start, a_end), range(b_start, b_end))
        if kind == "equal":
            yield from (Pair(role=a[x].role, status="same", a=x, b=y) for x, y in rows)
            continue
        for x, y in _by_role(a[a_start:a_end], b[b_start:b_end]):
            at, to = (None if x is None else a_start + x), (None if y is None else b_start + y)
            yield _pair(a, b, at, to)


def _pair(a: list[Message], b: list[Message], x: int | None, y: int | None) -> Pair:
    if x is None or y is None:
        only = a[x] if x is not None else b[y or 0]
        return Pair(role=only.role, status="only_b" if x is None else "only_a", a=x, b=y)
    changes = text_changes(text_of(a[x]), text_of(b[y]))
    return Pair(role=a[x].role, status="differs", a=x, b=y, changes=changes)


def _by_role(a: Sequence[Message], b: Sequence[Message]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the indices of differing messages, paired where the roles are in the same order."""
    roles = [[message.role for message in side] for side in (a, b)]
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, roles[0], roles[1], autojunk=False).get_opcodes():
        if kind == "equal":
            yield from zip(range(a_start, a_end), range(b_start, b_end), strict=True)
            continue
        yield from ((x, None) for x in range(a_start, a_end))
        yield from ((None, y) for y in range(b_start, b_end))
