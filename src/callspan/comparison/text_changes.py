"""Text changes: the common and the differing runs of two texts, by words or lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal["words", "lines"]
Where: TypeAlias = Literal["both", "a", "b"]
_PIECES: Final = {"words": re.compile(r"\s*\w+|\s*[^\w\s]|\s+"), "lines": re.compile(r"[^\n]*\n|[^\n]+")}
_MAX_PIECES: Final = 2_000
"""Longer texts are compared by lines, and texts of more lines not at all, because the time grows quadratically."""


class TextRun(NamedTuple):
    """A run of text that is in both texts, or only in one."""

    where: Where
    text: str


def text_changes(a: str, b: str, unit: Unit = "words") -> list[TextRun]:
    """Return the runs of both texts in order; those of A joined are A, and likewise for B.

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
    joined = (
        TextRun(where, "".join(text for _, text in group))
        for where, group in groupby(filter(itemgetter(1), runs), itemgetter(0))
    )
    return [*joined]
