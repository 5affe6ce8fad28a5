"""JSON rows: the stable `--json` output: calls and sessions flattened for lists, and a session with everything."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from callspan.cli.agent_selection import inside_agents
from callspan.cli.prices import pricer_of_now
from callspan.cost.unknown import cost_reason
from callspan.records import CallRecord, EventRecord, MessageRecord, TimestepRecord, Tree, links_of
from callspan.stores import (
    CallFilter,
    Entry,
    Event,
    Reader,
    SessionSummary,
    as_row,
    call_facts,
    question,
    session_facts,
    step_of,
    timestep_facts,
)

Row: TypeAlias = dict[str, object]

_OUTPUT_CHARACTERS: Final = 200
_EVERY: Final = CallFilter()
CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
"""Ends abbreviated ids."""
_SHORTEST: Final = 13
"""Length of the timestamp at the start of a time-ordered id."""
_LISTS: Final = ("calls", "tools", "events", "messages", "rewards")
_ROWS_AT_ONCE: Final = 500
"""Calls per query for the positions of timesteps."""


def call_rows(reader: Reader, calls: Iterable[CallRecord], selection: CallFilter = _EVERY) -> Iterator[Row]:
    """Yield calls as `callspan calls --json` prints them, with the positions of their timesteps.

    With a selection by scores they have their scores.
    """
    remaining = iter(calls)
    positions: Mapping[str, int] = {}
    known_sessions: set[str] = set()
    while batch := list(itertools.islice(remaining, _ROWS_AT_ONCE)):
        rows = [call_row(call) for call in batch]
        if selection.is_about_scores:
            scores = reader.call_scores(batch, selection.judged)
            rows = [row | {"scores": scores[str(row["call_id"])]} for row in rows]
        sessions = {str(row["session_id"]) for row in rows if row["timestep_id"] is not None}
        if not sessions <= known_sessions:
            known_sessions, positions = sessions, reader.step_positions(sorted(sessions))
        for row in rows:
            yield row | {"timestep_position": positions.get(str(row["timestep_id"]))}


def call_row(call: CallRecord, position: int | None = None) -> Row:
    """Return a call as a row, with the given position of its timestep. None is unknown."""
    additions = {
        "timestep_position": position,
        "cost_reason": cost_reason(call, pricer_of_now),
        "question": question(call),
        "output": output_text(call),
    }
    return as_row(call_facts(call, "list")) | additions


def session_row(summary: SessionSummary) -> Row:
    """Return a session as `callspan sessions --json` prints it; None is unknown."""
    return as_row(session_facts(summary, "list"))


def output_text(call: CallRecord) -> str | None:
    """Return a short form of a call's output: its text, else its tool calls; None if it was not recorded."""
    return " ".join(call.answer_texts or ())[:_OUTPUT_CHARACTERS] or None


def short_ids(ids: Iterable[str], besides: Iterable[str] = ()) -> dict[str, str]:
    """Return a prefix of each id, 13 characters or longer, that is unique among `ids` and `besides`.

    Without a terminal a prefix ends in an ellipsis; every command accepts it in this form.
    """
    mark = "" if sys.stdout.isatty() else CUT
    distinct_ids = set(ids)
    lengths = dict.fromkeys(sorted(distinct_ids.union(besides)), _SHORTEST)
    for ident, next_ident in itertools.pairwise(lengths):
        common = next(
            (index for index, (a, b) in enumerate(zip(ident, next_ident, strict=False)) if a != b), len(ident)
        )
        for neighbour in (ident, next_ident):
            lengths[neighbour] = max(lengths[neighbour], common + 2)
    shorter = {ident: ident[: lengths[ident]].rstrip("-") for ident in distinct_ids}
    return {ident: short if short == ident else short + mark for ident, short in shorter.items()}


def session_json(reader: Reader, summary: SessionSummary, limit: int | None, agent: str | None) -> Row | None:
    """Return a session with its first `limit` entries, in lists by kind, for each step and outside of steps.

    Lists are in the order of the tree, and an entry names what it is below. `agent`: only what is inside the agents
    with this name, task, or beginning of an id; None without such an agent.
    """
    steps = list(reader.timesteps(summary.session.session_id))
    positions = {step.timestep_id: position for position, step in enumerate(steps)}
    members: list[tuple[int | None, str, Row]] = []
    # Calls are not kept, because they have their messages.
    links, events = [*map(links_of, steps)], list[EventRecord | None]([None] * len(steps))
    entries = reader.entries(summary.session.session_id)
    for entry in entries if agent is not None else itertools.islice(entries, limit):
        position = positions.get(step_of(entry) or "")
        members.append((position, *_member(entry, position)))
        links.append(links_of(entry))
        events.append(entry if isinstance(entry, EventRecord) else None)
    tree = Tree(links)
    numbers = range(len(links)) if agent is None else inside_agents(tree, events, agent)
    if agent is not None and not numbers:
        return None
    lists: list[dict[str, list[Row]]] = [{name: [] for name in _LISTS} for _ in range(len(steps) + 1)]
    shown = (number for number, _ in tree if number >= len(steps) and number in numbers)
    for number in itertools.islice(shown, limit):
        position, name, row = members[number - len(steps)]
        lists[-1 if position is None else position][name].append(row | {"parent_id": tree.parent_id(number)})
    rows = [
        _step(step, position) | {"parent_id": tree.parent_id(position)} | lists[position]
        for position, step in enumerate(steps)
        if position in numbers or any(lists[position].values())
    ]
    return {
        **session_row(summary),
        "steps": rows,
        **{f"loose_{name}": rows_of_kind for name, rows_of_kind in lists[-1].items()},
    }


def _member(entry: Entry, position: int | None) -> tuple[str, dict[str, object]]:
    """Return the name of the list that an entry belongs to, and its JSON."""
    if isinstance(entry, CallRecord):
        return "calls", call_row(entry, position)
    if isinstance(entry, EventRecord):
        return ("tools" if entry.event_type == "tool" else "events"), record_fields(entry)
    return ("messages" if isinstance(entry, MessageRecord) else "rewards"), record_fields(entry)


def record_fields(item: Event) -> dict[str, object]:
    """Return every field, including those that a record omits at their default."""
    return {"kind": item.__struct_config__.tag, **msgspec.structs.asdict(item)}


def _step(step: TimestepRecord, position: int) -> dict[str, object]:
    return timestep_facts(step, "list") | {"timestep_position": position}
