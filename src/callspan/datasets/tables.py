"""Tables: one row per call for data frames, written as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import turns
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.settings import SettingError

_GROUP: Final = 1000
_TEXT: Final = (
    *("call_id", "session_id", "session_name", "task_id", "timestep_id", "trace_id", "provider", "api", "model"),
    *("response_model", "outcome", "finish_reason", "cost_usd", "messages", "answer", "tools", "params"),
    "session_metadata",
)
_TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_INTEGER: Final = ("timestep", "start_ns", "duration_ns", "ttft_ns", "retries", *_TOKENS)
COLUMNS: Final = dict.fromkeys(_TEXT, "string") | dict.fromkeys(_INTEGER, "int64") | {"reward": "float64"}
"""Column -> type. `cost_usd` is exact decimal text; `messages`, `answer`, `tools`, `params` are JSON."""


def table_rows(found: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one flat row per call; a value that is not known is None."""
    for episode in found:
        for turn in turns(episode.calls, statistics.dropped, reasoning=options.reasoning):
            statistics.messages += len(turn.messages) + 1
            row = _row(turn.call, episode)
            row["messages"] = encode_json(turn.messages).decode()
            row["answer"] = encode_json(turn.answer).decode()
            row["tools"] = encode_json(turn.tools).decode() if turn.tools else None
            yield row


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows to a Parquet file, a thousand to a group. Raises SettingError where pyarrow is not installed."""
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in COLUMNS.items()])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise SettingError('Parquet needs pyarrow, which is not installed: pip install "callspan[datasets]"') from error


def _groups(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group


def _row(call: CallRecord, episode: Episode) -> Row:
    session, usage, response = episode.summary.session, call.usage, call.response
    reasons = response.finish_reasons if response else []
    row: Row = dict.fromkeys(COLUMNS)
    row |= {
        "call_id": call.call_id,
        "session_id": call.place.session_id,
        "session_name": call.place.session_name,
        "task_id": session.task_id,
        "timestep_id": call.place.timestep_id,
        "timestep": call.place.timestep,
        "trace_id": call.trace_id,
        "provider": call.provider,
        "api": call.api,
        "model": call.request.model,
        "response_model": response.model if response else None,
        "outcome": call.outcome,
        "finish_reason": next((reason for reason in reasons if reason), None),
        "cost_usd": format(call.cost.usd, "f") if call.cost else None,
        "params": encode_json(call.request.params).decode(),
        "session_metadata": encode_json(session.metadata).decode() if session.metadata else None,
        "start_ns": call.timing.start_ns,
        "duration_ns": call.timing.duration_ns,
        "ttft_ns": call.timing.first_token_ns,
        "retries": call.retries,
        "reward": episode.summary.reward,
    }
    for name in _TOKENS:
        row[name] = getattr(usage, name) if usage else None
    return row
