"""Tree: which record of a session stands below which. Decided here alone, for the command, the page and the report.

Records come from tasks, threads and processes that run at once, so their times say nothing about who started whom.
Each says what is around it: the span above its own, its timestep, or an id that another program reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from callspan.record.call import CallRecord
from callspan.record.events import (
    RUN_TYPES,
    EventRecord,
    MessageRecord,
    RewardRecord,
    TimestepRecord,
    first_ns,
    is_agent,
    record_key,
)

TreeRecord: TypeAlias = CallRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord
SUBAGENT_ID: Final = "subagent_id"
"""Metadata of a tool that started another program's agent: the agent's id."""
_NO_TIMES: Final[Mapping[str, int]] = {}


class TreeLinks(NamedTuple):
    """What a record says of its place in the tree. None is unknown."""

    ident: str
    """The id of the record, which no other record of the session has."""
    start_ns: int
    timestep_id: str | None = None
    """Its timestep; of a timestep the one around it."""
    span_id: str | None = None
    parent_span_id: str | None = None
    scope_span_id: str | None = None
    """The span of the nearest scope, if it is not the parent."""
    call_id: str | None = None
    """The call that an event, message or reward belongs to."""
    event_id: str | None = None
    """The event that a reward belongs to."""
    agent_id: str | None = None
    """Without a span: the id of another program's agent, which is this record or contains it."""
    subagent_id: str | None = None
    """The agent that another program's tool started."""
    is_step: bool = False
    is_call: bool = False
    is_agent: bool = False
    is_start: bool = False
    """Whether the record of its end replaces it."""


def links_of(record: TreeRecord) -> TreeLinks:
    """Return what a record says of its place in the tree."""
    _, ident = record_key(record)
    start_ns = first_ns(record)
    match record:
        case CallRecord():
            return TreeLinks(
                ident, start_ns, record.place.timestep_id, record.span_id, record.parent_span_id, _scope_of(record),
                agent_id=_text(record.metadata, "agent_id", record.span_id), is_call=True,
            )  # fmt: skip
        case TimestepRecord(parent_timestep_id=parent_id):
            return TreeLinks(
                ident, start_ns, parent_id, record.span_id, record.parent_span_id, _scope_of(record), is_step=True
            )
        case EventRecord():
            return TreeLinks(
                ident, start_ns, record.timestep_id, record.span_id, record.parent_span_id, _scope_of(record),
                record.call_id,
                agent_id=_text(record.metadata, "agent_id", record.span_id),
                subagent_id=_text(record.metadata, SUBAGENT_ID, record.span_id),
                is_agent=is_agent(record), is_start=record.event_type in RUN_TYPES,
            )  # fmt: skip
        case MessageRecord():
            return TreeLinks(ident, start_ns, record.timestep_id, call_id=record.call_id)
        case RewardRecord():
            return TreeLinks(ident, start_ns, record.timestep_id, call_id=record.call_id, event_id=record.event_id)


def _scope_of(record: CallRecord | TimestepRecord | EventRecord) -> str | None:
    return None if record.trace is None else record.trace.scope_span_id


def task_of(tool: EventRecord) -> str | None:
    """Return the task that a tool gives to an agent, as its arguments describe it; None without a description."""
    arguments = tool.data.get("arguments") if isinstance(tool.data, dict) else None
    description = arguments.get("description") if isinstance(arguments, dict) else None
    return description if isinstance(description, str) and description else None


def _text(metadata: Mapping[str, object], name: str, span_id: str | None) -> str | None:
    """Return a text of the metadata of a record without a span."""
    value = metadata.get(name) if span_id is None else None
    return value if isinstance(value, str) else None


class Tree:
    """The records of a session, each below what was around it; they are named by their number in `links`.

    If a record's parent is not among them, it is below the nearest ancestor that is, in the end below the session.
    Siblings are in the order of their start, a timestep before what started with it. Parents in a circle, which no
    program makes, are cut open at the earliest. Takes linear time, except for sorting.
    """

    def __init__(self, links: Iterable[TreeLinks], times: Mapping[str, int] = _NO_TIMES) -> None:
        """`times`: by id, the time that places a record in the tree instead of its start."""
        self._links = [*links]
        orders = [
            (times.get(link.ident, link.start_ns), not link.is_step, number) for number, link in enumerate(self._links)
        ]
        self.parents = _without_circles(_Index(self._links).parents(), orders)
        """By number, the number of the record directly above; None for the session."""
        self._children: dict[int | None, list[int]] = {}
        for *_, number in sorted(orders):
            self._children.setdefault(self.parents[number], []).append(number)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the number of each record and how many are above it, each record before those below it."""
        return self.below(None)

    def below(self, number: int | None) -> Iterator[tuple[int, int]]:
        """Yield the numbers of the records below one, as for the whole tree; depth 0 is directly below it."""
        waiting = [(child, 0) for child in reversed(self._children.get(number, ()))]
        while waiting:
            child, depth = waiting.pop()
            yield child, depth
            waiting.extend((grandchild, depth + 1) for grandchild in reversed(self._children.get(child, ())))

    def parent_id(self, number: int) -> str | None:
        """Return the id of the record directly above; None for the session."""
        parent = self.parents[number]
        return None if parent is None else self._links[parent].ident


class _Index:
    """Finds records by the ids that other records name."""

    def __init__(self, links: list[TreeLinks]) -> None:
        self._links = links
        self._spans: dict[str | None, int] = {}
        self._steps: dict[str | None, int] = {}
        self._calls: dict[str | None, int] = {}
        self._events: dict[str | None, int] = {}
        self._agents: dict[str | None, int] = {}
        self._starters: dict[str | None, int] = {}
        for number, link in enumerate(links):
            if link.is_step:
                self._steps[link.ident] = number
            elif link.is_call:
                self._calls[link.ident] = number
            else:
                self._events[link.ident] = number
            if link.is_agent and link.agent_id is not None:
                self._put(self._agents, link.agent_id, number)
            if link.subagent_id is not None:
                self._put(self._starters, link.subagent_id, number)
            if link.span_id is not None:
                self._put(self._spans, link.span_id, number)

    def _put(self, numbers: dict[str | None, int], key: str, number: int) -> None:
        """Remember the first record with a key, but prefer the record of an end over the record of its start."""
        if key not in numbers or self._links[numbers[key]].is_start:
            numbers[key] = number

    def parents(self) -> list[int | None]:
        """Return the parent of each record, the first of its candidates."""
        return [
            next((candidate for candidate in self._candidates(link) if candidate not in (None, number)), None)
            for number, link in enumerate(self._links)
        ]

    def _candidates(self, link: TreeLinks) -> Iterator[int | None]:
        """Yield the records that a record may be below, the nearest first; None for a record that is not there."""
        related = self._related(link)
        if link.span_id is None:
            yield from self._of_agent(link)
            if related is not None:
                # Without a span, a tool, message or reward is where the call or event is that it belongs to.
                yield from self._of_agent(related)
                yield self._spans.get(related.parent_span_id)
                yield self._spans.get(related.scope_span_id)
        yield self._spans.get(link.parent_span_id)
        yield self._spans.get(link.scope_span_id)
        if related is not None:
            yield self._spans.get(related.parent_span_id)
            yield self._spans.get(related.scope_span_id)
        yield self._steps.get(link.timestep_id)

    def _of_agent(self, link: TreeLinks) -> Iterator[int | None]:
        """Yield another program's agent around a record, then the tool that started the agent."""
        if link.agent_id is not None:
            yield None if link.is_agent else self._agents.get(link.agent_id)
            yield self._starters.get(link.agent_id)

    def _related(self, link: TreeLinks) -> TreeLinks | None:
        """Return the call or event that a record belongs to, if it is in the same timestep."""
        number = self._events.get(link.event_id)
        event = None if number is None else self._links[number]
        number = self._calls.get(link.call_id if event is None else event.call_id)
        related = event if number is None or (event is not None and event.span_id is not None) else self._links[number]
        return None if related is None or related.timestep_id != link.timestep_id else related


def _without_circles(parents: list[int | None], orders: list[tuple[int, bool, int]]) -> list[int | None]:
    """Return the parents; in each circle the earliest record has none."""
    checked_in: list[int | None] = [None] * len(parents)
    for start in range(len(parents)):
        number: int | None = start
        while number is not None and checked_in[number] is None:
            checked_in[number] = start
            number = parents[number]
        if number is not None and checked_in[number] == start:
            circle = [number]
            while (above := parents[circle[-1]]) is not None and above != number:
                circle.append(above)
            parents[min(circle, key=orders.__getitem__)] = None
    return parents
