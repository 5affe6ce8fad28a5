"""Agent selection: what is inside some of a session's agents, by a name that a person gives."""

from __future__ import annotations

from collections.abc import Sequence

from callspan.records import EventRecord, Tree, is_agent, task_of


def inside_agents(tree: Tree, records: Sequence[object], name: str) -> set[int]:
    """Return the numbers of the agents with this name, task, or beginning of an id, and of all that is inside them.

    Of `records`, by their number in the tree, only the events are read.
    """
    numbers = set[int]()
    for number, record in enumerate(records):
        if number in numbers or not is_agent(record):
            continue
        parent = tree.parents[number]
        if _is_called(record, None if parent is None else records[parent], name):
            numbers.update((number, *(inner for inner, _ in tree.below(number))))
    return numbers


def _is_called(agent: EventRecord, parent: object, name: str) -> bool:
    words = (agent.name, task_of(parent) if isinstance(parent, EventRecord) else None)
    ids = (agent.event_id, agent.metadata.get("agent_id"))
    return name in words or any(isinstance(ident, str) and ident.startswith(name) for ident in ids)
