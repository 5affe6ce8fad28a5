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
from callspan.stores import CallFilter, Scoring, scored

Json = dict[str, Any]


def tool_call(name: str, arguments: dict[str, Any], call_id: str) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


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
        scoring = Scoring(**{name: choice.pop(name) for name in [*choice] if name in Scoring.__struct_fields__})
        reader = scored(open_store(world.write(tmp_path / f"{number}.db")), scoring)
        target = tmp_path / f"{number}.jsonl"
        statistics = export(reader, format_name, target, CallFilter(**choice), options)
        assert not target.exists() or target.stat().st_mode & 0o777 == 0o600, "for nobody else"
        reader.close()
        rows = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
        return Exported(rows, statistics)

    return run


_STRING = {"type": "string"}
_NAMED = {"type": "string", "minLength": 1}
_OBJECT = {"type": "object"}


def _closed(*required: str, **properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    return {"type": "object", "required": [*required], "additionalProperties": False, "properties": properties}


def _several(*items: Any, **options: int) -> dict[str, Any]:
    """The schema of a list of at least one of these items."""
    return {"type": "array", "minItems": 1, "items": items[0] if len(items) == 1 else {"oneOf": [*items]}, **options}


def _message(*roles: str, required: tuple[str, ...] = ("role", "content"), **properties: Any) -> dict[str, Any]:
    return _closed(*required, role={"enum": [*roles]}, name=_STRING, **properties)


_TEXT_PART = _closed("type", "text", type={"const": "text"}, text=_STRING)
_URL = {"type": "string", "pattern": "^(https?://|data:image/)"}
_IMAGE_URL = _closed("url", url=_URL, detail={"enum": ["low", "high", "auto"]})
_IMAGE_PART = _closed("type", "image_url", type={"const": "image_url"}, image_url=_IMAGE_URL)
_OTHER_PART = {"type": "object", "required": ["type"], "properties": {"type": {"enum": ["input_audio", "file"]}}}
_TEXTS = {"oneOf": [_STRING, _several(_TEXT_PART)]}
_CALLED = _closed("name", "arguments", name=_NAMED, arguments=_STRING)
_TOOL_CALL = _closed("id", "type", "function", id=_NAMED, type={"const": "function"}, function=_CALLED)
_ASSISTANT = _message(
    "assistant", content={"oneOf": [{"type": "null"}, *_TEXTS["oneOf"]]}, refusal=_STRING,
    tool_calls=_several(_TOOL_CALL), weight={"enum": [0, 1]}, required=("role",),
)  # fmt: skip
_ANY_MESSAGE = (
    _message("system", "developer", content=_TEXTS),
    _message("user", content={"oneOf": [_STRING, _several(_TEXT_PART, _IMAGE_PART, _OTHER_PART)]}),
    _ASSISTANT,
    _message("tool", content=_TEXTS, tool_call_id=_STRING, required=("role", "content", "tool_call_id")),
)
_FUNCTION = _closed(
    "name", name={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"}, description=_STRING, parameters=_OBJECT,
    strict={"type": ["boolean", "null"]},
)  # fmt: skip
_TOOL = _closed("type", "function", type={"const": "function"}, function=_FUNCTION)
_ROW = _closed(
    "messages", messages=_several(*_ANY_MESSAGE), tools=_several(_TOOL), parallel_tool_calls={"type": "boolean"}
)
_OUTPUT = _several(_ASSISTANT, maxItems=1)
_PAIR = _closed(
    "input", "preferred_output", "non_preferred_output", input=_ROW, preferred_output=_OUTPUT,
    non_preferred_output=_OUTPUT,
)  # fmt: skip


def check_fine_tuning(row: Any) -> None:
    """Raise unless OpenAI's trainer would take the row."""
    jsonschema.validate(row, _ROW)
    _check_order(row["messages"])
    assert row["messages"][-1]["role"] == "assistant"
    assert any(m.get("weight", 1) for m in row["messages"] if m["role"] == "assistant"), "nothing to train on"
    _check_tools_known(row)


def check_preference(row: Any) -> None:
    """Raise unless it is a preference pair."""
    jsonschema.validate(row, _PAIR)
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


_ANY: dict[str, Any] = {}
_PICTURE = _closed(
    "media_type", "path", path=_STRING, media_type={"enum": ["image/jpeg", "image/png", "image/gif", "image/webp"]}
)
_PARTS = _several(_TEXT_PART, _closed("type", "source", type={"const": "image"}, source=_PICTURE))
_RESULT = _closed(
    source_call_id={"type": ["string", "null"]}, content={"oneOf": [{"type": "null"}, _STRING, _PARTS]},
    subagent_trajectory_ref=_ANY, extra=_OBJECT,
)  # fmt: skip
_ATIF_CALL = _closed(
    "tool_call_id", "function_name", "arguments", tool_call_id=_STRING, function_name=_STRING, arguments=_OBJECT,
    extra=_OBJECT,
)  # fmt: skip
_METRICS = _closed(**dict.fromkeys((
    "prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd", "prompt_token_ids", "completion_token_ids",
    "logprobs", "extra",
), _ANY))  # fmt: skip
_TOTALS = _closed(**dict.fromkeys((
    "total_prompt_tokens", "total_completion_tokens", "total_cached_tokens", "total_cost_usd", "total_steps", "extra",
), _ANY))  # fmt: skip
_OF_ALL: dict[str, Any] = {
    "step_id": _ANY, "timestamp": _STRING, "message": {"oneOf": [_STRING, _PARTS]}, "is_copied_context": _ANY,
    "observation": _closed("results", results={"type": "array", "items": _RESULT}), "llm_call_count": _ANY,
    "extra": _OBJECT,
}  # fmt: skip
_OF_AGENTS: dict[str, Any] = {
    "model_name": _STRING, "reasoning_effort": _ANY, "reasoning_content": _STRING, "tool_calls": _several(_ATIF_CALL),
    "metrics": _METRICS,
}  # fmt: skip
_STEP = {
    "oneOf": [
        _closed("step_id", "source", "message", source={"enum": ["system", "user"]}, **_OF_ALL),
        _closed("step_id", "source", "message", source={"const": "agent"}, **_OF_ALL, **_OF_AGENTS),
    ]
}
_AGENT = _closed(
    "name", "version", name=_STRING, version=_STRING, model_name=_STRING, tool_definitions=_ANY, extra=_OBJECT
)
_TRAJECTORY = _closed(
    "schema_version", "agent", "steps", schema_version={"const": "ATIF-v1.7"}, session_id=_STRING,
    trajectory_id=_STRING, agent=_AGENT, steps=_several(_STEP), notes=_STRING, final_metrics=_TOTALS,
    continued_trajectory_ref=_ANY, extra=_OBJECT, subagent_trajectories=_ANY,
)  # fmt: skip


def check_trajectory(row: Any) -> None:
    """Raise unless it is a trajectory of ATIF 1.7: unknown keys forbidden, results in the step of their calls."""
    jsonschema.validate(row, _TRAJECTORY)
    assert [step["step_id"] for step in row["steps"]] == list(range(1, len(row["steps"]) + 1))
    assert row.get("final_metrics", {}).get("total_steps", len(row["steps"])) == len(row["steps"])
    for step in row["steps"]:
        datetime.fromisoformat(step.get("timestamp", "2026-11-20"))
        called = {None, *(call["tool_call_id"] for call in step.get("tool_calls", ()))}
        assert {one.get("source_call_id") for one in step.get("observation", {"results": ()})["results"]} <= called
        assert step.get("llm_call_count") != 0 or not {"metrics", "reasoning_content"} & set(step)
