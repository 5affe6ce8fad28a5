"""Diff as text: formats the fields of a diff, for the command and the page."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from callspan.comparison.diff import Diff, Fact
from callspan.formatting import UNKNOWN, count, duration, money
from callspan.records import encode_json

STATUS_WORDS: Final = {"same": "same", "differs": "differs", "only_a": "only in A", "only_b": "only in B"}


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


def first_difference_text(found: Diff) -> str:
    """Return a sentence about the first difference of parameters, tools and messages."""
    if found.first_difference is None:
        return "Parameters, tools and messages are equal."
    section, place = found.first_difference
    if section == "messages":
        return f"First difference: message {place + 1}, {found.messages[place].role}."
    rows = found.parameters if section == "parameters" else found.tools
    return f"First difference: {section.removesuffix('s')} {rows[place].name}."
