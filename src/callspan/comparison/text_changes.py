"""Text changes: what two texts have in common, and what only one of them has, by words or lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal["words", "lines"]
"""What is compared as a whole."""
Where: TypeAlias = Literal["both", "a", "b"]
"""Which text has a stretch."""
_PIECES: Final = {"words": re.compile(r"\s*\w+|\s*[^\w\s]|\s+"), "lines": re.compile(r"[^\n]*\n|[^\n]+")}
_MOST_PIECES: Final = 2_000
"""More in either text are compared by lines, and more lines as a whole: the time grows with the product."""


class Run(NamedTuple):
    """A stretch of text."""

    where: Where
    text: str


def text_changes(a: str, b: str, unit: Unit = "words") -> list[Run]:
    """Return the stretches of both texts in order; those of A, joined, are A, and likewise B.

    Example:
        >>> text_changes("a red tent", "a blue tent")
        [Run(where='both', text='a '), Run(where='a', text='red'), Run(where='b', text='blue'), ...]
    """
    pieces = _PIECES[unit].findall(a), _PIECES[unit].findall(b)
    if max(map(len, pieces)) > _MOST_PIECES:
        return text_changes(a, b, "lines") if unit == "words" else _joined([("a", a), ("b", b)])
    return _joined(_runs(*pieces))


def _runs(a: list[str], b: list[str]) -> Iterator[tuple[Where, str]]:
    for kind, a_start, a_end, b_start, b_end in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "both", "".join(a[a_start:a_end])
            continue
        yield "a", "".join(a[a_start:a_end])
        yield "b", "".join(b[b_start:b_end])


def _joined(runs: Iterable[tuple[Where, str]]) -> list[Run]:
    joined = (
        Run(where, "".join(text for _, text in group))
        for where, group in groupby(filter(itemgetter(1), runs), itemgetter(0))
    )
    return [*joined]
