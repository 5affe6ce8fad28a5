"""Preference pairs: the same prompt with the better and the worse response."""

from __future__ import annotations

from typing import Any

from callspan.datasets.selection import Options

from .conftest import TOOLS, Export, World, asking, tool_call
from .formats import check_preference

START = [{"role": "system", "content": "Play."}, {"role": "user", "content": "Begin."}]


def play(world: World, session_id: str, move: str, reward: float | None, **fields: Any) -> None:
    """Look, which every session does alike, then move."""
    world.session(session_id, reward, **({"task_id": "maze"} | fields))
    looked = world.chat(START, asking(tool_call("look", {}, "c1")), session_id, tools=TOOLS)
    seen = [*START, looked, {"role": "tool", "tool_call_id": "c1", "content": "a fork"}]
    world.chat(seen, move, session_id, tools=TOOLS)


def test_two_sessions_of_a_task_are_compared_at_their_first_difference(world: World, exported: Export) -> None:
    play(world, "good", "left", 1.0)
    play(world, "bad", "right", 0.0)
    (row,) = exported("preferences").rows
    check_preference(row)
    assert [m["role"] for m in row["input"]["messages"]] == ["system", "user", "assistant", "tool"]
    assert row["preferred_output"] == [{"role": "assistant", "content": "left"}]
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "right"}]
    assert row["input"]["tools"] == TOOLS


def test_the_best_is_paired_with_each_worse_one(world: World, exported: Export) -> None:
    for number, reward in enumerate((0.2, 1.0, 0.5)):
        play(world, f"s{number}", f"way {number}", reward)
    rows = exported("preferences").rows
    assert [row["preferred_output"][0]["content"] for row in rows] == ["way 1", "way 1"]
    assert {row["non_preferred_output"][0]["content"] for row in rows} == {"way 0", "way 2"}


def test_sessions_without_a_pair_are_counted(world: World, exported: Export) -> None:
    play(world, "a", "left", 1.0)
    play(world, "b", "right", 0.95)
    play(world, "c", "left", 0.1)
    play(world, "d", "left", 1.0, task_id="another")
    play(world, "e", "left", None)
    play(world, "f", "left", 1.0, task_id=None)
    found = exported("preferences", options=Options(margin=0.1))
    assert found.rows == []
    assert found.left_out == {
        "pair: rewards too alike": 1,
        "pair: no prompt with different answers": 1,
        "pair: only one session of its task": 1,
        "session: no reward": 1,
        "session: no task_id": 1,
    }


def test_sessions_may_be_one_task_by_their_metadata(world: World, exported: Export) -> None:
    play(world, "a", "left", 1.0, task_id=None, metadata={"seed": 7})
    play(world, "b", "right", 0.0, task_id=None, metadata={"seed": 7})
    play(world, "c", "up", 0.0, task_id=None, metadata={"seed": 8})
    (row,) = exported("preferences", options=Options(pair_by="seed", metadata=True)).rows
    assert row["metadata"] == {"task": "7", "sessions": ["a", "b"], "rewards": [1.0, 0.0]}
