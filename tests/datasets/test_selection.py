"""Filters of datasets, and what an export leaves out, counted by reason."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callspan import SettingError, open_store
from callspan.datasets import FORMATS, export
from callspan.records import Cost, Stream, Usage
from tests.support.commands import ask
from tests.support.records import START_NS

from .conftest import Export, World


@pytest.fixture
def sessions(world: World) -> None:
    """Four sessions: good, bad, one that achieved things, and one of which nothing is known."""
    world.session("good", reward=1.0, success=True, metadata={"seed": 7, "env": "maze"})
    world.chat([{"role": "user", "content": "good"}], "g", "good", model="gpt-5-mini")
    world.session("bad", reward=-1.0, success=False, outcome="failure", metadata={"seed": 8})
    big = Usage(input_tokens=5000, output_tokens=100)
    dear = Cost(usd=Decimal("2.5"), source="test")
    world.chat([{"role": "user", "content": "bad"}], "b", "bad", usage=big, cost=dear, provider="groq")
    world.session("crafter", reward=0.5, outcome=None)
    world.chat([{"role": "user", "content": "crafter"}], "c", "crafter")
    world.event("crafter", data={"after": {"achievements": {"wood": 2, "stone": 0}}})
    world.event("crafter", data={"after": {"achievements": ["wood", "table"]}})
    world.reward("crafter", 1.0, scope="event", objective="achievement", label="sword")
    world.session("dark", outcome=None)
    world.chat([{"role": "user", "content": "dark"}], "d", "dark", usage=None, cost=None)
    world.chat([{"role": "user", "content": "loose"}], "l")


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({}, ["good", "bad", "crafter", "dark", "loose"]),
        ({"min_reward": 0.5}, ["good", "crafter"]),
        ({"max_reward": 0.5}, ["bad", "crafter"]),
        ({"max_cost": Decimal(1)}, ["good", "crafter"]),
        ({"max_tokens": 15}, ["good", "crafter"]),
        ({"success": True}, ["good"]),
        ({"success": False}, ["bad"]),
        ({"meta": (("seed", "7"),)}, ["good"]),
        ({"meta": (("seed", "7"), ("env", "desert"))}, []),
        ({"models": ("gpt-5-mini",)}, ["good"]),
        ({"models": ("gpt-5-1",)}, ["good", "bad", "crafter", "dark", "loose"]),
        ({"providers": ("groq",)}, ["bad"]),
        ({"achievements": ("wood",)}, ["crafter"]),
        ({"achievements": ("wood", "sword", "table")}, ["crafter"]),
        ({"achievements": ("stone",)}, []),
        ({"without_achievements": ("wood",)}, ["good", "bad", "dark"]),
        ({"min_achievements": 3}, ["crafter"]),
        ({"min_achievements": 4}, []),
        ({"session_ids": ("go", "crafter")}, ["good", "crafter"]),
        ({"min_reward": 0.0, "models": ("gpt-5",)}, ["crafter"]),
        ({"limit": 2}, ["good", "bad"]),
        ({"since_ns": START_NS + 10**15}, []),
        ({"until_ns": START_NS}, []),
    ],
)
def test_each_filter_keeps_what_it_says(exported: Export, choice: dict[str, Any], kept: list[str]) -> None:
    assert [row["messages"][0]["content"] for row in exported("openai", **choice).rows] == kept


@pytest.mark.usefixtures("sessions")
def test_what_is_left_out_is_counted_by_its_reason(exported: Export) -> None:
    found = exported("openai", min_reward=0.0, achievements=("wood",))
    assert found.left_out == {
        "session: reward too low or unknown": 2,
        "session: achievements": 1,
        "call: outside sessions": 1,
    }
    assert found.statistics.rewards == [0.5]
    assert found.statistics.as_json()["reward"] == {"min": 0.5, "median": 0.5, "mean": 0.5, "max": 0.5}


@pytest.mark.usefixtures("sessions")
def test_a_session_that_is_not_there_is_named(exported: Export) -> None:
    assert exported("openai", session_ids=("nope",)).left_out == {
        "session: nope is not in the store, or several match": 1
    }


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("name", [name for name, made in FORMATS.items() if not made.parquet])
def test_tokens_and_models_are_those_of_the_rows_or_unknown_and_never_zero(
    world: World, tmp_path: Path, name: str
) -> None:
    counted = export(open_store(world.write(tmp_path / "w.db")), name, None).as_json()
    tokens = (counted["input_tokens"], counted["output_tokens"])
    assert all(tokens) == bool(counted["models"])
    assert (tokens == (None, None)) == (counted["models"] is None)
    assert (counted["models"] is None) == (name in {"preferences", "rollouts"}), "no pairs of calls, no token ids"


def test_an_unknown_format_is_named(world: World, tmp_path: Path) -> None:
    reader = open_store(world.write(tmp_path / "w.db"))
    with pytest.raises(SettingError, match="no format 'csv': use one of openai,"):
        export(reader, "csv", None)


def test_a_text_chooses_the_sessions_that_contain_it_and_such_calls_outside(world: World, exported: Export) -> None:
    for session_id, answer in (("s1", "Go EAST."), ("s2", "Go west.")):
        world.session(session_id)
        world.chat([{"role": "user", "content": "?"}], answer, session_id)
    world.chat([{"role": "user", "content": "?"}], "To the east.")
    world.chat([{"role": "user", "content": "?"}], "To the north.")
    found = exported("openai", text="east")
    assert [row["messages"][-1]["content"] for row in found.rows] == ["Go EAST.", "To the east."]
    assert found.left_out == {"session: without the text": 1}


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
    assert found.left_out == {"session: not checked because of the limit": 3}
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
