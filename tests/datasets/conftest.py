"""A small store of sessions on every API, written as the shipper writes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

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
def world() -> World:
    return World()


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
