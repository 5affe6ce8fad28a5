"""Fact rows: calls, sessions and timesteps flattened by the table of facts, for lists, page, comparisons and tables."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from callspan.formatting import exact
from callspan.record.call import CallRecord
from callspan.record.events import TimestepRecord
from callspan.stores.base import SessionSummary
from callspan.stores.tables.facts import CALLS, SESSIONS, SUMMARIES, TIMESTEPS, Form, Surface, facts_of, shown_in

LISTED: Final[Mapping[str, Form]] = {fact.name: fact.form for fact in shown_in(CALLS, "list")}
"""The facts of calls in lists, with their forms."""


def call_facts(call: CallRecord, surface: Surface) -> dict[str, object]:
    """Return the facts of a call shown on a surface, by name; None is unknown."""
    return facts_of(CALLS, call, surface)


def session_facts(summary: SessionSummary, surface: Surface) -> dict[str, object]:
    """Return the facts of a session and its sums shown on a surface, by name; None is unknown."""
    return facts_of(SESSIONS, summary.session, surface) | facts_of(SUMMARIES, summary, surface)


def timestep_facts(step: TimestepRecord, surface: Surface) -> dict[str, object]:
    """Return the facts of a timestep shown on a surface, by name; None is unknown."""
    return facts_of(TIMESTEPS, step, surface)


def as_row(facts: Mapping[str, object]) -> dict[str, object]:
    """Return facts as a row of JSON: money as exact text."""
    return {name: exact(value) if isinstance(value, Decimal) else value for name, value in facts.items()}
