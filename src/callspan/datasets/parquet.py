"""Parquet: a table of calls in one file, for data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Final

from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn, turns
from callspan.datasets.selection import Episode, Options, Statistics, is_cut_off
from callspan.records import CallRecord, encode_json
from callspan.settings import SettingError
from callspan.stores import LISTED, as_row, call_facts

GROUP_ROWS: Final = 1000
_TYPES: Final = {"int": "int64", "count": "int64", "flag": "bool", "real": "float64"}
"""The type of a column by the form of its fact, where it is not text."""
_TEXTS: Final = ("task_id", "session_metadata", "scores", "tools", "params")
FACTS: Final = (
    {name: _TYPES.get(form, "string") for name, form in LISTED.items()}
    | dict.fromkeys(_TEXTS, "string")
    | {"timestep_position": "int64", "reward": "float64"}
)
"""The columns of a call without its messages, and their types: the fields of `callspan calls --json`, tools and
parameters of the call, and the labels and scores of its session. `cost_usd` is exact decimal text; lists and objects
are JSON."""
COLUMNS: Final = FACTS | dict.fromkeys(("messages", "answer"), "string")
"""The columns of the table in one file, and their types."""


def table_rows(selected_episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one flat row per call; unknown values are None."""
    for _, turn, row in fact_rows(selected_episodes, options, statistics):
        row["messages"] = json_text(turn.messages)
        row["answer"] = json_text(turn.answer)
        yield row


def fact_rows(
    selected_episodes: Iterable[Episode], options: Options, statistics: Statistics
) -> Iterator[tuple[Episode, Turn, Row]]:
    """Yield each call with its session and the values of `FACTS`; unknown ones are None."""
    for episode in selected_episodes:
        positions = episode.step_positions()
        for turn in turns(episode, options, statistics):
            statistics.messages += len(turn.messages) + 1
            statistics.cut_off_answers += is_cut_off(turn.call)
            row = _row(turn.call, episode, positions)
            row["tools"] = json_text(turn.tools or None)
            yield episode, turn, row


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows to a Parquet file, 1,000 per row group. Raises SettingError if pyarrow is not installed."""
    arrow, parquet = pyarrow()
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    remaining = iter(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(remaining, GROUP_ROWS)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def pyarrow() -> tuple[ModuleType, ModuleType]:
    """Import pyarrow and its Parquet module. Raises SettingError if it is not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise SettingError('Parquet needs pyarrow, which is not installed: pip install "callspan[datasets]"') from error


def _row(call: CallRecord, episode: Episode, positions: Mapping[str, int]) -> Row:
    session = episode.summary.session
    facts = as_row(call_facts(call, "list"))
    return dict.fromkeys(FACTS) | {
        **{name: json_text(value) if FACTS[name] == "string" else value for name, value in facts.items()},
        "task_id": session.task_id,
        "timestep_position": positions.get(call.place.timestep_id or ""),
        "params": encode_json(call.request.params).decode(),
        "session_metadata": json_text(session.metadata or None),
        "reward": episode.summary.reward,
        "scores": json_text(episode.scores or None),
    }


def json_text(value: object) -> str | None:
    """Return text and None unchanged, any other value as JSON."""
    return value if value is None or isinstance(value, str) else encode_json(value).decode()
