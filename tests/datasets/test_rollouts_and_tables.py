"""Token records for RL, and the table of calls."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from callspan import SettingError
from callspan.datasets import export, exporting
from callspan.datasets.selection import Options
from callspan.records import Place
from callspan.stores.urls import open_store

from .conftest import Export, World

QUESTION = [{"role": "user", "content": "?"}]


def test_a_rollout_holds_the_ids_the_server_returned(world: World, exported: Export) -> None:
    world.session("s1", reward=2.0, task_id="t", group_id="g")
    logprobs = {"content": [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": -1.0}]}
    choice = {"token_ids": [7, 8], "logprobs": logprobs, "finish_reason": "length"}
    place = Place(session_id="s1", timestep_id="t1")
    world.chat(QUESTION, "ab", "s1", choice=choice, body={"prompt_token_ids": [1, 2, 3]}, place=place)
    world.event("s1", timestep_id="t1", reward=0.5)
    world.chat(QUESTION, "no ids", "s1")
    found = exported("rollouts")
    (row,) = found.rows
    assert (row["reward"], row["example_id"], row["group_id"], row["trajectory_id"]) == (2.0, "t", "g", "s1")
    (step,) = row["steps"]
    assert step["tokens"] == {
        "prompt_ids": [1, 2, 3],
        "prompt_mask": [0, 0, 0],
        "completion_ids": [7, 8],
        "completion_mask": [1, 1],
        "completion_logprobs": [-0.25, -1.0],
        "is_truncated": True,
    }
    assert step["prompt"] == QUESTION
    assert step["completion"] == [{"role": "assistant", "content": "ab"}]
    assert step["reward"] == 0.5
    assert found.left_out == {"call: no token ids": 1}


def test_a_table_of_calls_reads_back_with_its_types(world: World, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'callspan[datasets]'")
    world.session("s1", reward=0.5, metadata={"seed": 7})
    world.chat(QUESTION, "In.", "s1")
    world.chat(QUESTION, "Out.", usage=None, cost=None)
    target = tmp_path / "calls.parquet"
    export(open_store(world.write(tmp_path / "w.db")), "parquet", target)
    table = parquet.read_table(target)
    assert {field.name: str(field.type).replace("double", "float64") for field in table.schema} == exporting.COLUMNS
    inside, outside = table.to_pylist()
    assert json.loads(inside["messages"]) == QUESTION
    assert json.loads(inside["answer"])["content"] == "In."
    assert Decimal(inside["cost_usd"]) == Decimal("0.001")
    assert (inside["reward"], inside["input_tokens"]) == (0.5, 10)
    assert (outside["reward"], outside["input_tokens"], outside["cost_usd"], outside["session_id"]) == (None,) * 4


def test_without_pyarrow_the_table_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    world.chat(QUESTION, "x")
    with pytest.raises(SettingError, match=r"pip install .callspan\[datasets\]"):
        export(open_store(world.write(tmp_path / "w.db")), "parquet", tmp_path / "x.parquet", options=Options())
    assert not (tmp_path / "x.parquet").exists()
