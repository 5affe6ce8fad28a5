"""What an export leaves out is counted by reason, and whether answers that were cut off are in is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callspan.datasets import FORMATS
from callspan.records import Stream
from tests.unit.cli.conftest import ask

from .conftest import Export, World

TEXT_FORMATS = [name for name, made in FORMATS.items() if not made.parquet]
TOKENS = {"token_ids": [3]}


def question(text: str = "?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def cut_off(world: World) -> None:
    """Two sessions of a task: the better answer ends at the limit of tokens, the worse one with its stream."""
    for session_id, reward, fields in (
        ("good", 1.0, {"choice": {"finish_reason": "length", **TOKENS}}),
        ("bad", 0.0, {"choice": TOKENS, "stream": Stream(end="cut_off", chunks=2)}),
    ):
        world.session(session_id, reward, task_id="maze")
        world.chat(question(), f"I am {session_id}", session_id, body={"prompt_token_ids": [1]}, **fields)


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_answers_that_were_cut_off_are_in_and_counted_or_left_out(world: World, exported: Export, name: str) -> None:
    cut_off(world)
    found = exported(name)
    assert found.rows
    assert found.statistics.cut_off == 2
    assert found.statistics.as_json()["cut_off_answers"] == 2
    assert not found.left_out
    without = exported(name, without_cut_off=True)
    assert not without.rows
    assert without.statistics.cut_off == 0
    assert without.left_out["call: cut off"] == 2


def test_an_answer_that_was_cut_off_counts_where_it_is_trained_on(world: World, exported: Export) -> None:
    world.session("s1")
    half = world.chat(question(), "Half an", "s1", choice={"finish_reason": "length"})
    world.chat([*question(), half, *question("Go on.")], "answer.", "s1")
    assert exported("openai").statistics.cut_off == 1
    assert exported("openai-session").statistics.cut_off == 1
    (row,) = exported("openai-session", without_cut_off=True).rows
    assert [message.get("weight") for message in row["messages"]] == [None, 0, None, 1]


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_calls_outside_sessions_are_counted_where_only_sessions_are_exported(
    world: World, exported: Export, name: str
) -> None:
    cut_off(world)
    for number in range(3):
        world.chat(question(f"{number}"), "Loose.", body={"prompt_token_ids": [1]}, choice=TOKENS)
    only_sessions = FORMATS[name].loose == "none"
    assert exported(name).left_out["call: outside sessions"] == 3 * only_sessions
    assert exported(name, min_reward=0.0).left_out["call: outside sessions"] == 3
    assert not exported(name, session_ids=("good", "bad")).left_out["call: outside sessions"], "nobody asked for them"


def test_what_the_limit_leaves_is_counted_as_far_as_it_is_known(world: World, exported: Export) -> None:
    for number in range(4):
        world.session(f"s{number}", 1.0 - number / 10, task_id="maze")
        world.chat(question(), f"{number}", f"s{number}")
    found = exported("openai", limit=1)
    assert found.statistics.stopped_at_limit
    assert found.left_out == {"session: not looked at, because of the limit": 3}
    assert exported("preferences", limit=1).statistics.as_json()["stopped_at_limit"] is True
    assert not exported("openai", limit=5).statistics.stopped_at_limit


@pytest.mark.parametrize("target", ["file", "stdout", "none"])
def test_the_command_says_what_it_left_out_and_whether_cut_off_answers_are_in(
    world: World, tmp_path: Path, target: str
) -> None:
    cut_off(world)
    world.chat(question(), "half", outcome="cancelled")
    store = world.write(tmp_path / "w.db")
    where = {"file": ["-o", str(tmp_path / "out.jsonl")], "stdout": ["-o", "-"], "none": ["--dry-run"]}[target]
    answer = ask("--store", store, "export", "openai", *where)
    shown = answer.err if target == "stdout" else answer.out
    assert "left out: call: outcome cancelled (1)" in shown
    assert "2 answers that were cut off are in" in shown
    assert "--without-cut-off" in shown
    answer = ask("--store", store, "export", "openai", "--session", "good", "--without-cut-off", *where)
    assert "left out: call: cut off (1)" in (answer.err if target == "stdout" else answer.out)
    counts = json.loads(ask("--store", store, "--json", "export", "openai", "--dry-run").out)
    assert counts["cut_off_answers"] == 2
    assert counts["left_out"] == {"call: outcome cancelled": 1}
