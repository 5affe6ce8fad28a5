"""The sizes of spans as Markdown: callspan's, the peers', and the limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import page
import weights
from budgets import Budget
from peers import Peer

_INTRODUCTION = """\
Bytes of one span as OTLP: a request of the OTLP exporter's own encoder with the span or spans of one call, their
resource and scope, uncompressed. Each peer in the environment of its own, callspan with default settings in the same
process. Content captured by both; then by neither (callspan: `content="off"`). The plain call's sizes are those of the
bodies on the wire. Answers state no rate limits: where a provider states them, as api.openai.com does, callspan's span
has six attributes more, {limits} bytes. In brackets: callspan's in parts of theirs.
"""
_OFFICIAL = "official"


class Place(Protocol):
    """What is known of a peer; `found` is what `peer_process.py` has written."""

    key: str
    peer: Peer
    trouble: str
    found: dict[str, Any]


def text(places: Sequence[Place]) -> str:
    """Return the part of the page on the bytes of spans."""
    there = [place for place in places if "weighed" in place.found]
    parts = ["## A span's weight", _INTRODUCTION.format(limits=weights.LIMITS), page.conditions()]
    official = next((place for place in there if place.key == _OFFICIAL), None)
    if official is not None:
        rows = [budget.row() for budget in budgets(official)]
        parts.append(page.table(("budget, beside official", "at most", "is", ""), rows))
    head = ("work", "callspan", *(place.peer.name for place in there))
    rows = [_row(name, "weighed", there) for name in weights.TITLES]
    rows += [_row(name, "weighed-without", there, ", without content") for name in weights.TITLES[:1]]
    parts.append(page.table(head, rows))
    return "\n\n".join(part.strip() for part in parts)


def budgets(official: Place) -> Iterator[Budget]:
    """Return the bars and where the figures stand."""
    found = official.found["weighed"]
    for name, most in weights.TIMES.items():
        yield Budget(name, most, found["ours"][name] / found["theirs"][name], "times")
    if (bare := official.found.get("weighed-without")) is not None:
        name = weights.PLAIN
        more = bare["ours"][name] - bare["theirs"][name]
        yield Budget(f"{name}, without content", weights.MORE, more, "bytes more")


def _row(name: str, kind: str, places: Sequence[Place], note: str = "") -> tuple[str, ...]:
    shown = [place.found[kind] for place in places if kind in place.found and place.peer.families[0] == "openai"]
    ours = shown[0]["ours"][name] if shown else 0
    cells = []
    for place in places:
        both = place.found.get(kind)
        cells.append(f"{both['theirs'][name]:,} ({both['ours'][name] / both['theirs'][name]:.2f})" if both else "")
    return (name + note, f"{ours:,}", *cells)
