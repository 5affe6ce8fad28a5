"""Fact rows: calls, sessions and timesteps flattened by the table of facts, for lists, page, comparisons and tables."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from callspan.formatting import exact
from callspan.record.call import CallRecord
from callspan.record.events import TimestepRecord
from callspan.stores.base import SessionSummary
from callspan.stores.facts import CALLS, SESSIONS, SUMMARIES, TIMESTEPS, Form, Place, facts_of, shown_in

LISTED: Final[Mapping[str, Form]] = {fact.name: fact.form for fact in shown_in(CALLS, "list")}
"""The facts of calls in lists, with their forms."""


def call_facts(call: CallRecord, place: Place) -> dict[str, object]:
    """Return the facts of a call that are shown in a place, by name; None is unknown."""
    return facts_of(CALLS, call, place)


def session_facts(summary: SessionSummary, place: Place) -> dict[str, object]:
    """Return the facts of a session and its sums that are shown in a place, by name; None is unknown."""
    return facts_of(SESSIONS, summary.session, place) | facts_of(SUMMARIES, summary, place)


def timestep_facts(step: TimestepRecord, place: Place) -> dict[str, object]:
    """Return the facts of a timestep that are shown in a place, by name; None is unknown."""
    return facts_of(TIMESTEPS, step, place)


def as_row(facts: Mapping[str, object]) -> dict[str, object]:
    """Return facts as a row of JSON: money as exact text."""
    return {name: exact(value) if isinstance(value, Decimal) else value for name, value in facts.items()}
