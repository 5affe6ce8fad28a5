"""Diff: compares two calls or two sessions: fields, parameters, tools and messages, with the runs that differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.comparison.sides import Side, text_of
from callspan.formatting import UNKNOWN, count, duration, money
from callspan.records import Message, encode_json
from callspan.runtime.amounts import EXACT

Section: TypeAlias = Literal["parameters", "tools", "messages"]
Status: TypeAlias = Literal["same", "differs", "only_a", "only_b"]

STATUS_WORDS: Final = {"same": "same", "differs": "differs", "only_a": "only in A", "only_b": "only in B"}

Unit: TypeAlias = Literal["words", "lines"]
Where: TypeAlias = Literal["both", "a", "b"]
_PIECES: Final = {"words": re.compile(r"\s*\w+|\s*[^\w\s]|\s+"), "lines": re.compile(r"[^\n]*\n|[^\n]+")}
_MAX_PIECES: Final = 2_000
"""Longer texts are compared by lines, and texts of more lines not at all, because the time grows quadratically."""
_MAX_ALIGNED: Final = 600
"""Of more messages, those that occur often are not aligned, because the time grows with the third power."""


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
            return EXACT.subtract(b, a)
        return b - a if isinstance(a, (int, float)) and isinstance(b, (int, float)) else None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One message of both sides, or of one."""

    role: str
    status: Status
    a: int | None = None
    """Its index in the messages of A; None if only B has it."""
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
            (name, index) for name, rows in sections.items() for index, row in enumerate(rows) if row.status != "same"
        )
        return next(differing, None)


def diff(a: Side, b: Side) -> Diff:
    """Compare two calls or two sessions; differing messages by words or lines. Ids of tool calls are ignored.

    Example:
        >>> difference = diff(side_of_call(one, one.conversation), side_of_call(other, other.conversation))
        >>> difference.first_difference
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
        value_a, value_b = a.get(name), b.get(name)
        if value_a is not None or value_b is not None:
            yield Fact(name=name, status=_status(value_a, value_b), a=value_a, b=value_b)


def _status(a: object, b: object) -> Status:
    if a == b:
        return "same"
    return "only_b" if a is None else "only_a" if b is None else "differs"


def _pairs(a: list[Message], b: list[Message]) -> Iterator[Pair]:
    keys = [[(message.role, text_of(message)) for message in side] for side in (a, b)]
    is_long = max(len(a), len(b)) > _MAX_ALIGNED
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, keys[0], keys[1], autojunk=is_long).get_opcodes():
        rows = zip_longest(range(a_start, a_end), range(b_start, b_end))
        if kind == "equal":
            yield from (Pair(role=a[x].role, status="same", a=x, b=y) for x, y in rows)
            continue
        for x, y in _by_role(a[a_start:a_end], b[b_start:b_end]):
            index_a, index_b = (None if x is None else a_start + x), (None if y is None else b_start + y)
            yield _pair(a, b, index_a, index_b)


def _pair(a: list[Message], b: list[Message], x: int | None, y: int | None) -> Pair:
    if x is None or y is None:
        message = a[x] if x is not None else b[y or 0]
        return Pair(role=message.role, status="only_b" if x is None else "only_a", a=x, b=y)
    text_a, text_b = text_of(a[x]), text_of(b[y])
    if text_a == text_b:
        return Pair(role=a[x].role, status="same", a=x, b=y)
    return Pair(role=a[x].role, status="differs", a=x, b=y, changes=text_changes(text_a, text_b))


def _by_role(a: Sequence[Message], b: Sequence[Message]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the indices of differing messages, paired where the roles are in the same order."""
    roles = [[message.role for message in side] for side in (a, b)]
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, roles[0], roles[1], autojunk=False).get_opcodes():
        if kind == "equal":
            yield from zip(range(a_start, a_end), range(b_start, b_end), strict=True)
            continue
        yield from ((x, None) for x in range(a_start, a_end))
        yield from ((None, y) for y in range(b_start, b_end))


def name_text(name: str) -> str:
    """Return the name of a field without its unit; names of scores and metadata are unchanged."""
    return name if ":" in name else name.removesuffix("_ns").removesuffix("_usd").replace("_", " ")


def value_text(name: str, value: object) -> str:
    """Return the value of the field of this name as text."""
    match value:
        case None:
            return UNKNOWN
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return money(value)
        case int() if name.endswith("_ns"):
            return duration(value)
        case int():
            return count(value)
        case float():
            return f"{value:.4g}"
        case str():
            return value
    return encode_json(value).decode()


def against_text(fact: Fact) -> str:
    """Return B relative to A: a percentage for times, costs and tokens, else a difference or a word."""
    difference = fact.difference
    if difference is None:
        return STATUS_WORDS[fact.status]
    if fact.name.endswith(("_ns", "_usd", "_tokens")) and isinstance(fact.a, (int, Decimal)) and fact.a > 0:
        return f"{100 * float(difference) / float(fact.a):+.0f} %"
    return f"{difference:+,.4g}" if isinstance(difference, float) else f"{difference:+,}"


def first_difference_text(difference: Diff) -> str:
    """Return a sentence about the first difference of parameters, tools and messages."""
    if difference.first_difference is None:
        return "Parameters, tools and messages are equal."
    section, index = difference.first_difference
    if section == "messages":
        return f"First difference: message {index + 1}, {difference.messages[index].role}."
    rows = difference.parameters if section == "parameters" else difference.tools
    return f"First difference: {section.removesuffix('s')} {rows[index].name}."


class TextRun(NamedTuple):
    """A run of text that is in both texts, or only in one."""

    where: Where
    text: str


def text_changes(a: str, b: str, unit: Unit = "words") -> list[TextRun]:
    """Return the runs of both texts in order; the runs of A joined are A, and likewise for B.

    Example:
        >>> text_changes("a red tent", "a blue tent")
        [TextRun(where='both', text='a '), TextRun(where='a', text='red'), TextRun(where='b', text='blue'), ...]
    """
    pieces = _PIECES[unit].findall(a), _PIECES[unit].findall(b)
    if max(map(len, pieces)) > _MAX_PIECES:
        return text_changes(a, b, "lines") if unit == "words" else _joined([("a", a), ("b", b)])
    return _joined(_runs(*pieces))


def _runs(a: list[str], b: list[str]) -> Iterator[tuple[Where, str]]:
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "both", "".join(a[a_start:a_end])
            continue
        yield "a", "".join(a[a_start:a_end])
        yield "b", "".join(b[b_start:b_end])


def _joined(runs: Iterable[tuple[Where, str]]) -> list[TextRun]:
    text_runs = (
        TextRun(where, "".join(text for _, text in group))
        for where, group in groupby(filter(itemgetter(1), runs), itemgetter(0))
    )
    return [*text_runs]
