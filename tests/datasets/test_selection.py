"""Filters of datasets, and what an export leaves out, counted by reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.records import START_NS

from callspan import SettingError, open_store
from callspan.datasets import FORMATS, Options, export
from callspan.records import Stream

from .conftest import Export, World


@pytest.fixture
def sessions(world: World) -> None:
    """A good and a bad session with calls of two models, one of which nothing is known, and a call outside."""
    world.session("good", reward=1.0, success=True, metadata={"seed": 7})
    world.chat(question("good"), "g", "good", model="gpt-5-mini")
    world.chat(question("better"), "g", "good", metadata={"variant": "b"})
    world.session("bad", reward=-1.0, success=False, outcome="failure")
    world.chat(question("bad"), "b", "bad", provider="groq")
    world.session("dark", outcome=None)
    world.chat(question("dark"), "d", "dark")
    world.reward("dark", 0.9, objective="helpful")
    world.chat(question("loose"), "l", metadata={"variant": "b"})


def question(text: str = "?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({}, ["good", "better", "bad", "dark", "loose"]),
        (
            {"newest_first": True, "sort": "cost_usd", "limit": 1, "offset": 1},
            ["good", "better", "bad", "dark", "loose"],
        ),
        ({"min_reward": 0.5}, ["good", "better"]),
        ({"min_score": 0.5, "objectives": ("helpful",)}, ["dark"]),
        ({"success": True}, ["good", "better"]),
        ({"metadata": (("seed", "7"),)}, ["good", "better"]),
        ({"metadata": (("variant", "b"),)}, ["better", "loose"]),
        ({"metadata": (("variant", "b"),), "min_reward": 0.5}, ["better"]),
        ({"metadata": (("variant", "b"),), "max_tokens": 15}, ["loose"]),
        ({"metadata": (("variant", "b"),), "min_tokens": 16}, ["better"]),
        ({"metadata": (("variant", "b"),), "model": "gpt-5-mini"}, []),
        ({"model": "gpt-5-mini"}, ["good"]),
        ({"provider": "groq"}, ["bad"]),
        ({"session_id": "good"}, ["good", "better"]),
        ({"text": "bette"}, ["good", "better"]),
        ({"since_ns": START_NS + 10**15}, []),
    ],
)
def test_list_filters_select_sessions_and_calls(exported: Export, choice: dict[str, Any], kept: list[str]) -> None:
    """Those that they do not select are not left out: nobody asked for them."""
    found = exported("openai", **choice)
    assert [row["messages"][0]["content"] for row in found.rows] == kept
    assert found.left_out == {}


def test_unknown_format_is_named(world: World, tmp_path: Path) -> None:
    reader = open_store(world.write(tmp_path / "w.db"))
    with pytest.raises(SettingError, match="no format 'csv': use one of openai,"):
        export(reader, "csv", None)


TEXT_FORMATS = [name for name, made in FORMATS.items() if not made.parquet]
TOKENS = {"token_ids": [3]}
WHOLE = Options(without_cut_off=True)


def cut_off(world: World) -> None:
    """Two sessions of a task: the better answer ends at the limit of tokens, the worse one with its stream."""
    for session_id, reward, fields in (
        ("good", 1.0, {"choice": {"finish_reason": "length", **TOKENS}}),
        ("bad", 0.0, {"choice": TOKENS, "stream": Stream(end="cut_off", chunks=2)}),
    ):
        world.session(session_id, reward, task_id="maze")
        world.chat(question(), f"I am {session_id}", session_id, body={"prompt_token_ids": [1]}, **fields)


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_cut_off_answers_are_counted_or_excluded(world: World, exported: Export, name: str) -> None:
    cut_off(world)
    found = exported(name)
    assert found.rows
    assert found.statistics.cut_off_answers == 2
    assert not found.left_out
    without = exported(name, options=WHOLE)
    assert not without.rows
    assert without.statistics.cut_off_answers == 0
    assert without.left_out["call: cut off"] == 2


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_session_without_usable_call_is_counted_and_excluded(world: World, exported: Export, name: str) -> None:
    cut_off(world)
    world.session("failed", 2.0, task_id="maze")
    world.chat(question(), "?", "failed", outcome="error")
    found = exported(name)
    assert found.rows
    assert found.left_out == {"call: outcome error": 1, "session: no call that fits": 1}
    assert (found.statistics.sessions, found.statistics.sessions_kept, found.statistics.calls) == (3, 2, 3)


def test_cut_off_answer_is_counted_only_if_trained_on(world: World, exported: Export) -> None:
    world.session("s1")
    half = world.chat(question(), "Half an", "s1", choice={"finish_reason": "length"})
    world.chat([*question(), half, *question("Go on.")], "answer.", "s1")
    assert exported("openai").statistics.cut_off_answers == 1
    assert exported("openai-session").statistics.cut_off_answers == 1
    (row,) = exported("openai-session", options=WHOLE).rows
    assert [message.get("weight") for message in row["messages"]] == [None, 0, None, 1]


@pytest.mark.parametrize("name", TEXT_FORMATS)
def test_calls_outside_sessions_are_counted(world: World, exported: Export, name: str) -> None:
    cut_off(world)
    for number in range(3):
        world.chat(question(f"{number}"), "Loose.", body={"prompt_token_ids": [1]}, choice=TOKENS)
    only_sessions = FORMATS[name].outside == "none"
    assert exported(name).left_out["call: outside sessions"] == 3 * only_sessions
    for choice in ({"min_reward": 0.0}, {"session_id": "good"}, {"task_id": "maze"}):
        assert not exported(name, **choice).left_out["call: outside sessions"], "nobody asked for them"


def test_sessions_beyond_the_limit_are_counted(world: World, exported: Export) -> None:
    for number in range(4):
        world.session(f"s{number}", 1.0 - number / 10, task_id="maze")
        world.chat(question(), f"{number}", f"s{number}")
    found = exported("openai", options=Options(limit=1))
    assert found.statistics.stopped_at_limit
    assert found.left_out == {"session: not checked because of the limit": 3}
    assert exported("preferences", options=Options(limit=1)).statistics.stopped_at_limit
    assert not exported("openai", options=Options(limit=5)).statistics.stopped_at_limit


@pytest.mark.parametrize("target", ["file", "stdout", "none"])
def test_command_reports_excluded_and_cut_off_answers(world: World, tmp_path: Path, target: str) -> None:
    cut_off(world)
    world.chat(question(), "half", outcome="cancelled")
    store = world.write(tmp_path / "w.db")
    where = {"file": ["-o", str(tmp_path / "out.jsonl")], "stdout": ["-o", "-"], "none": ["--dry-run"]}[target]
    answer = ask("--store", store, "export", "openai", *where)
    shown = answer.err if target == "stdout" else answer.out
    assert "left out: call: outcome cancelled (1)" in shown
    assert "2 answers that were cut off are included" in shown
    assert "--without-cut-off" in shown
    answer = ask("--store", store, "export", "openai", "--session", "good", "--without-cut-off", *where)
    assert "left out: call: cut off (1)" in (answer.err if target == "stdout" else answer.out)
    counts = json.loads(ask("--store", store, "--json", "export", "openai", "--dry-run").out)
    assert counts["cut_off_answers"] == 2
    assert counts["left_out"] == {"call: outcome cancelled": 1}
