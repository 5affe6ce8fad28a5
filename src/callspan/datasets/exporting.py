"""Exporting: writes a dataset from a store to a file, atomically, in one of several formats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.datasets.fine_tuning import Row, rows_per_call, rows_per_session
from callspan.datasets.lineage import turns
from callspan.datasets.preferences import preference_rows
from callspan.datasets.selection import Episode, Options, Outside, Statistics, episodes, is_cut_off
from callspan.datasets.trajectories import rollout_rows, trajectory_rows
from callspan.records import CallRecord, encode_json
from callspan.runtime.output_file import replacement
from callspan.settings import SettingError
from callspan.stores import LISTED, CallFilter, Reader, as_row, call_facts

PREFERENCES: Final = "preferences"
_GROUP: Final = 1000
_TYPES: Final = {"int": "int64", "count": "int64", "flag": "bool", "real": "float64"}
"""The type of a column by the form of its fact, where it is not text."""
_OF_SESSION: Final = ("task_id", "session_metadata", "scores", "messages", "answer", "tools", "params")
COLUMNS: Final = (
    {name: _TYPES.get(form, "string") for name, form in LISTED.items()}
    | dict.fromkeys(_OF_SESSION, "string")
    | {"timestep_position": "int64", "reward": "float64"}
)
"""The columns and types of a table: the fields of `callspan calls --json`, the content of the call, and the labels and
scores of its session. `cost_usd` is exact decimal text; lists and objects are JSON."""
Rows: TypeAlias = Callable[[Iterable[Episode], Options, Statistics], Iterator[Row]]
Progress: TypeAlias = Callable[[Statistics], None]
_LINE_ENDS: Final = tuple((chr(code).encode(), f"\\u{code:04x}".encode()) for code in (0x85, 0x2028, 0x2029))


def table_rows(selected_episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[Row]:
    """Yield one flat row per call; unknown values are None."""
    for episode in selected_episodes:
        positions = episode.step_positions()
        for turn in turns(episode, options, statistics):
            statistics.messages += len(turn.messages) + 1
            statistics.cut_off_answers += is_cut_off(turn.call)
            row = _row(turn.call, episode, positions)
            row["messages"] = encode_json(turn.messages).decode()
            row["answer"] = encode_json(turn.answer).decode()
            row["tools"] = encode_json(turn.tools).decode() if turn.tools else None
            yield row


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows to a Parquet file, 1,000 per row group. Raises SettingError if pyarrow is not installed."""
    arrow, parquet = _pyarrow()
    schema = arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    remaining = iter(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(remaining, _GROUP)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise SettingError('Parquet needs pyarrow, which is not installed: pip install "callspan[datasets]"') from error


def _row(call: CallRecord, episode: Episode, positions: Mapping[str, int]) -> Row:
    session = episode.summary.session
    facts = as_row(call_facts(call, "list"))
    return dict.fromkeys(COLUMNS) | {
        **{name: _json(value) if COLUMNS[name] == "string" else value for name, value in facts.items()},
        "task_id": session.task_id,
        "timestep_position": positions.get(call.place.timestep_id or ""),
        "params": encode_json(call.request.params).decode(),
        "session_metadata": _json(session.metadata or None),
        "reward": episode.summary.reward,
        "scores": _json(episode.scores or None),
    }


def _json(value: object) -> str | None:
    """Return text and None unchanged, any other value as JSON."""
    return value if value is None or isinstance(value, str) else encode_json(value).decode()


class Format(NamedTuple):
    """One format."""

    about: str
    rows: Rows
    outside: Outside
    parquet: bool = False


FORMATS: Final[dict[str, Format]] = {
    "openai": Format("fine-tuning rows (JSON Lines), one per call", rows_per_call, "all"),
    "openai-session": Format("fine-tuning rows, one per conversation of a session", rows_per_session, "all"),
    PREFERENCES: Format("pairs of answers of two sessions of a task, by reward", preference_rows, "none"),
    "atif": Format("agent trajectories (ATIF 1.7), one per session", trajectory_rows, "none"),
    "rollouts": Format("token ids and log-probabilities for RL, one row per session", rollout_rows, "one"),
    "parquet": Format("a table of calls (needs pyarrow)", table_rows, "all", parquet=True),
}
"""Formats by their names on the command line."""


def export(
    reader: Reader,
    format_name: str,
    target: str | Path | None,
    selection: CallFilter = CallFilter(),  # noqa: B008 - immutable
    options: Options = Options(),  # noqa: B008 - immutable
    *,
    progress: Progress | None = None,
) -> Statistics:
    """Write the selected calls to `target`, if given, and return the statistics.

    Sessions are selected as by `Reader.sessions`, and with `metadata` also if one of their calls has it; metadata,
    model and provider select among their calls too. Order and limit of `selection` do not apply.

    The target is replaced when the new file is complete; it is unchanged after a failure, or if there are no rows.

    Raises:
        SettingError: The format is unknown, its optional dependency is missing, or the options do not fit it.
        OSError: The target cannot be written.

    Example:
        >>> from callspan.datasets import export
        >>> from callspan.stores import CallFilter
        >>> store = callspan.open_store("sqlite:///recorded.db")
        >>> export(store, "openai", "train.jsonl", CallFilter(model="m")).rows
        1
        >>> store.close()
    """
    if format_name not in FORMATS:
        raise SettingError(f"no format {format_name!r}: use one of {', '.join(FORMATS)}")
    if format_name != PREFERENCES and options.pair_format != Options().pair_format:
        raise SettingError(f"pair format {options.pair_format!r} applies only to {PREFERENCES}, not to {format_name}")
    row_format = FORMATS[format_name]
    statistics = Statistics()
    report: Progress = progress or (lambda _: None)
    selection = msgspec.structs.replace(selection, sort="start_ns", newest_first=False, limit=None, offset=0)
    selected_episodes = _with_progress(episodes(reader, selection, row_format.outside, statistics), statistics, report)
    limited = islice(
        _counted(row_format.rows(selected_episodes, options, statistics), statistics, report), options.limit
    )
    if target is None:
        deque(limited, maxlen=0)
    else:
        with replacement(Path(target)) as new_file:
            (write_parquet if row_format.parquet else _write_lines)(limited, new_file.path)
            if statistics.rows:
                new_file.commit()
    _count_remaining(options.limit, statistics)
    return statistics


def _count_remaining(limit: int | None, statistics: Statistics) -> None:
    statistics.stopped_at_limit = limit is not None and statistics.rows >= limit
    remaining = statistics.sessions_found - statistics.sessions
    if statistics.stopped_at_limit and remaining:
        statistics.left_out["session: not checked because of the limit"] = remaining


def _with_progress(
    selected_episodes: Iterable[Episode], statistics: Statistics, progress: Progress
) -> Iterator[Episode]:
    """Yield sessions and report progress, because some formats make no row before the last session."""
    for episode in selected_episodes:
        progress(statistics)
        yield episode


def _counted(rows: Iterable[Row], statistics: Statistics, progress: Progress) -> Iterator[Row]:
    for row in rows:
        statistics.rows += 1
        progress(statistics)
        yield row


def _write_lines(rows: Iterable[Row], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(_escape_line_ends(encode_json(row)) + b"\n" for row in rows)


def _escape_line_ends(json: bytes) -> bytes:
    """Return JSON with Unicode line separators escaped, for readers that split text at them."""
    for character, escaped in _LINE_ENDS:
        json = json.replace(character, escaped)
    return json
