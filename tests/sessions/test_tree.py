"""Which record stands below which: by what each says of its parent, whatever runs at once and whatever is missing."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.support.records import SECOND, START_NS, event, made, message, reward, step

from callspan.records import Place, Trace, Tree, TreeLinks, TreeRecord, links_of

IN_STEP = Place(session_id="s1", timestep_id="t1")
Lines = list[str]


def at(seconds: float) -> int:
    return START_NS + int(seconds * SECOND)


def run(ident: str, seconds: float = 0, above: str | None = None, kind: str = "agent", **fields: Any) -> TreeRecord:
    """An operation whose span has its own id."""
    given = {"span_id": ident, "parent_span_id": above, "time_ns": at(seconds), "event_type": kind, "name": ident}
    return event(ident, **(given | fields))


def call(ident: str, seconds: float = 0, above: str | None = None, **fields: Any) -> TreeRecord:
    return made(ident, at_ns=at(seconds), **({"span_id": ident, "parent_span_id": above} | fields))


def reported(ident: str, seconds: float = 0, *, inside: str | None = None, **fields: Any) -> TreeRecord:
    """A call that another program reports, without a span."""
    return made(ident, at_ns=at(seconds), metadata={} if inside is None else {"agent_id": inside}, **fields)


def drawn(records: Iterable[TreeRecord]) -> Lines:
    """The ids in the order of the tree, each indented by its depth."""
    links = [links_of(record) for record in records]
    return [" " * depth + links[number].ident for number, depth in Tree(links)]


def two_agents() -> list[TreeRecord]:
    """Their calls alternate."""
    agents = [run("researcher", 0), run("critic", 0.1)]
    calls = [call(f"{name}{number}", number + share, name) for number in (1, 2) for name, share in AGENTS.items()]
    return [*agents, *calls]


AGENTS = {"researcher": 0.0, "critic": 0.5}
CASES: dict[str, tuple[list[TreeRecord], Lines]] = {
    "two agents at once": (
        two_agents(),
        ["researcher", " researcher1", " researcher2", "critic", " critic1", " critic2"],
    ),
    "parallel steps": (
        [
            step("t1", span_id="s1"), step("t2", index=1, start_ns=at(1), span_id="s2"),
            call("a", 2, "s1", place=IN_STEP), call("b", 3, "s2", place=Place(timestep_id="t2")),
            call("c", 4, "s1", place=IN_STEP),
        ],
        ["t1", " a", " c", "t2", " b"],
    ),
    "parallel tools with calls": (
        [
            run("x", 1, kind="tool"), run("y", 1.5, kind="tool"), call("a", 2, "y"), call("b", 3, "x"),
            call("c", 4, "y"),
        ],
        ["x", " b", "y", " a", " c"],
    ),
    "below spans of the application, which have no record": (
        [
            step("t1", span_id="s1"), run("agent", 1, "mine", timestep_id="t1", trace=Trace(scope_span_id="s1")),
            call("a", 2, "its", place=IN_STEP, trace=Trace(scope_span_id="agent")),
            run("x", 3, "its", "tool", timestep_id="t1", trace=Trace(scope_span_id="agent")),
            message("m", time_ns=at(3), timestep_id="t1", call_id="a"),
            call("b", 4, "x", place=IN_STEP, trace=Trace(scope_span_id="agent")),
        ],
        ["t1", " agent", "  a", "  x", "   b", "  m"],
    ),
    "a guardrail beside the call, with a call of its own": (
        [run("agent"), run("check", 1, "agent", "guardrail"), call("answer", 1, "agent"), call("judge", 2, "check")],
        ["agent", " check", "  judge", " answer"],
    ),
    "three agents deep": (
        [
            call("c", 3, "third"), run("third", 2, "tool"), run("tool", 1.5, "second", "tool"),
            run("second", 1, "first"), run("first"), call("b", 9, "second"),
        ],
        ["first", " second", "  tool", "   third", "    c", "  b"],
    ),
    "a handoff, and the agent that it names": (
        [
            run("triage"), run("to billing", 1, "triage", "handoff"), run("billing", 2), call("a", 3, "billing"),
            call("late", 4, "triage"),
        ],
        ["triage", " to billing", " late", "billing", " a"],
    ),
    "steps inside an agent": (
        [
            run("agent"), step("t1", start_ns=at(1), span_id="s1", parent_span_id="agent"),
            call("a", 2, "s1", place=IN_STEP), call("b", 3, "agent"),
        ],
        ["agent", " t1", "  a", " b"],
    ),
    "a step of its own trace inside another": (
        [step("t1"), step("t2", start_ns=at(1), parent_timestep_id="t1"), call("a", 2, place=Place(timestep_id="t2"))],
        ["t1", " t2", "  a"],
    ),
    "the parent is missing": (
        [step("t1", span_id="s1"), call("a", 1, "lost", place=IN_STEP), call("b", 2, "lost")],
        ["t1", " a", "b"],
    ),
    "the parent comes last, with a slower clock": (
        [call("a", 1, "tool"), call("b", 2, "agent"), run("tool", 5, "agent", "tool"), run("agent", 9)],
        ["agent", " b", " tool", "  a"],
    ),
    "a session continued in another process": (
        [step("t1", span_id="s1"), call("here", 1, "s1", place=IN_STEP), call("there", 0.5, "s1", place=IN_STEP)],
        ["t1", " there", " here"],
    ),
    "an agent that runs, and one that has ended": (
        [
            run("a-start", 0, kind="agent_start", span_id="a"), call("x", 1, "a"),
            run("b-start", 2, kind="agent_start", span_id="b"), run("b", 2), call("y", 3, "b"),
        ],
        ["a-start", " x", "b-start", "b", " y"],
    ),
    "subagents of another program": (
        [
            reported("main"),
            event("task 1", event_type="tool", time_ns=at(1), call_id="main", metadata={"subagent_id": "g1"}),
            event("task 2", event_type="tool", time_ns=at(1.1), call_id="main", metadata={"subagent_id": "g2"}),
            event("first", event_type="agent", time_ns=at(2), metadata={"agent_id": "g1"}),
            reported("a", 3, inside="g1"), reported("b", 4, inside="g2"),
            event("look", event_type="tool", time_ns=at(5), call_id="b"),
        ],
        ["main", "task 1", " first", "  a", "task 2", " b", " look"],
    ),
    "a program inside a tool": (
        [
            run("shell", 1, kind="tool"), reported("main", 2, parent_span_id="shell"),
            event("first", event_type="agent", time_ns=at(3), metadata={"agent_id": "g1"}, parent_span_id="shell"),
            reported("a", 4, inside="g1", parent_span_id="shell"),
        ],
        ["shell", " main", " first", "  a"],
    ),
    "messages and rewards are where their call or event is": (
        [
            run("agent"), call("a", 1, "agent"), message("m", call_id="a", time_ns=at(2)),
            run("tool", 3, "agent", "tool"), reward("r1", event_id="tool", time_ns=at(4)),
            reward("r2", call_id="a", time_ns=at(5)), reward("r3", call_id="lost", time_ns=at(6)),
        ],
        ["agent", " a", " m", " tool", " r1", " r2", "r3"],
    ),
    "an event about a call of an earlier step": (
        [
            step("t1", span_id="s1"), step("t2", index=1, start_ns=at(5), span_id="s2"),
            call("a", 1, "s1", place=IN_STEP), event("note", time_ns=at(6), timestep_id="t2", call_id="a"),
        ],
        ["t1", " a", "t2", " note"],
    ),
    "its own parent": ([run("a", above="a", timestep_id="t1"), step("t1", parent_timestep_id="t1")], ["t1", " a"]),
    "a circle": (
        [run("c", 3, "b"), run("a", 1, "c"), run("b", 2, "a"), call("x", 4, "b"), run("d", 0)],
        ["d", "a", " b", "  c", "  x"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_records_stand_below_their_parents(case: str) -> None:
    records, lines = CASES[case]
    assert drawn(records) == lines


def test_several_records_with_one_id_are_all_there() -> None:
    twins = [run("a"), call("a", 1), step("a", start_ns=at(2))]
    assert drawn(twins) == ["a", "a", "a"]


@pytest.mark.parametrize("seed", range(30))
def test_random_trees(seed: int) -> None:
    """Any part of a tree in any order: each record is once, right below its nearest ancestor that is there."""
    chance = random.Random(seed)
    parents: dict[str, str | None] = {"n0": None}
    for number in range(1, 60):
        parents[f"n{number}"] = chance.choice([None, *parents])
    present = [ident for ident in parents if chance.random() < 0.8]
    records = [run(ident, chance.random(), parents[ident]) for ident in chance.sample(present, len(present))]
    links = [links_of(record) for record in records]
    tree = Tree(links)
    path: list[str] = []
    for number, depth in tree:
        link = links[number]
        assert depth <= len(path)
        del path[depth:]
        assert (path[-1] if path else None) == (link.parent_span_id if link.parent_span_id in present else None)
        path.append(link.ident)
    assert sorted(number for number, _ in tree) == list(range(len(present)))
    starts = {link.ident: link.start_ns for link in links}
    siblings: dict[str | None, list[int]] = {}
    for number, _ in tree:
        siblings.setdefault(tree.parent_id(number), []).append(starts[links[number].ident])
    assert all(times == sorted(times) for times in siblings.values())


def chain(size: int) -> list[TreeLinks]:
    return [
        TreeLinks(str(number), number, span_id=str(number), parent_span_id=str(number - 1)) for number in range(size)
    ]


def circle(size: int) -> list[TreeLinks]:
    return [link._replace(parent_span_id=str((number - 1) % size)) for number, link in enumerate(chain(size))]


def star(size: int) -> list[TreeLinks]:
    return [link._replace(parent_span_id="0" if number else None) for number, link in enumerate(chain(size))]


@pytest.mark.parametrize("shape", [chain, circle, star])
def test_time_is_linear(shape: Callable[[int], list[TreeLinks]]) -> None:
    def cpu_s(size: int) -> float:
        links = shape(size)
        gc.disable()  # what it costs depends on the objects that other tests have left
        try:
            begun = time.process_time()
            assert len([*Tree(links)]) == size
            return time.process_time() - begun
        finally:
            gc.enable()

    small = min(cpu_s(5_000) for _ in range(3))
    assert min(cpu_s(50_000) for _ in range(2)) < 30 * small
