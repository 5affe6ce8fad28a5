"""A small store of sessions on every API, what an export makes of it, and strict readers of each format.

The readers are written from the formats' specifications, without code of callspan.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.support.world import World

from callspan import open_store
from callspan.datasets import Options, Statistics, export
from callspan.stores import CallFilter

Json = dict[str, Any]


def tool_call(name: str, arguments: dict[str, Any], call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def asking(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


class Exported:
    """What an export gave."""

    def __init__(self, rows: list[Any], statistics: Statistics) -> None:
        self.rows = rows
        self.statistics = statistics
        self.left_out: Counter[str] = statistics.left_out
        self.dropped: Counter[str] = statistics.dropped


Export = Callable[..., Exported]


@pytest.fixture
def exported(world: World, tmp_path: Path) -> Iterator[Export]:
    """Export what the world holds, and read the file back."""
    numbers = count(1)

    def run(format_name: str, *, options: Options = Options(), **choice: Any) -> Exported:  # noqa: B008 - immutable
        number = next(numbers)
        reader = open_store(world.write(tmp_path / f"{number}.db"))
        target = tmp_path / f"{number}.jsonl"
        statistics = export(reader, format_name, target, CallFilter(**choice), options)
        assert not target.exists() or target.stat().st_mode & 0o777 == 0o600, "for nobody else"
        reader.close()
        rows = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
        return Exported(rows, statistics)

    return run


_FORMATS: Json = json.loads(Path(__file__).with_name("formats.schema.json").read_text())


def _reader(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", **_FORMATS})


_ROW, _PAIR, _TRAJECTORY = map(_reader, ("row", "pair", "trajectory"))


def check_fine_tuning(row: Any) -> None:
    """Raise unless OpenAI's trainer would take the row."""
    _ROW.validate(row)
    _check_order(row["messages"])
    assert row["messages"][-1]["role"] == "assistant"
    assert any(m.get("weight", 1) for m in row["messages"] if m["role"] == "assistant"), "nothing to train on"
    _check_tools_known(row)


def check_preference(row: Any) -> None:
    """Raise unless it is a preference pair."""
    _PAIR.validate(row)
    _check_order(row["input"]["messages"])
    assert row["input"]["messages"][-1]["role"] != "assistant"
    assert row["preferred_output"] != row["non_preferred_output"]


def _check_order(messages: list[dict[str, Any]]) -> None:
    """Each tool call is answered before anything else is said, and only tool calls are answered."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
            continue
        assert not waiting, f"not answered: {waiting}"
        calls = message.get("tool_calls") or ()
        for call in calls:
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
        waiting = {call["id"] for call in calls}
        assert len(waiting) == len(calls)


def _check_tools_known(row: dict[str, Any]) -> None:
    known = {tool["function"]["name"] for tool in row.get("tools", ())}
    called = {c["function"]["name"] for m in row["messages"] for c in m.get("tool_calls") or ()}
    assert called <= known


def check_trajectory(row: Any) -> None:
    """Raise unless it is a trajectory of ATIF 1.7: unknown keys forbidden, results in the step of their calls."""
    _TRAJECTORY.validate(row)
    assert [step["step_id"] for step in row["steps"]] == list(range(1, len(row["steps"]) + 1))
    assert row.get("final_metrics", {}).get("total_steps", len(row["steps"])) == len(row["steps"])
    for step in row["steps"]:
        datetime.fromisoformat(step.get("timestamp", "2026-11-20"))
        called = {None, *(call["tool_call_id"] for call in step.get("tool_calls", ()))}
        assert {one.get("source_call_id") for one in step.get("observation", {"results": ()})["results"]} <= called
        assert step.get("llm_call_count") != 0 or not {"metrics", "reasoning_content"} & set(step)
