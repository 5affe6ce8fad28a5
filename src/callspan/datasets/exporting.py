"""Exporting: writes a dataset from a store to a file, atomically, in one of several formats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from callspan.datasets.fine_tuning import Row, rows_per_call, rows_per_session
from callspan.datasets.lake import DayRow, lake, lake_rows, whole_days
from callspan.datasets.parquet import table_rows, write_parquet
from callspan.datasets.preferences import preference_rows
from callspan.datasets.selection import Episode, Options, Outside, Statistics, episodes
from callspan.datasets.trajectories import rollout_rows, trajectory_rows
from callspan.records import encode_json
from callspan.runtime.output_file import replacement
from callspan.settings import SettingError
from callspan.stores import CallFilter, Reader

PREFERENCES: Final = "preferences"
PARQUET: Final = "parquet"
Rows: TypeAlias = Callable[[Iterable[Episode], Options, Statistics], Iterator[Row]]
Progress: TypeAlias = Callable[[Statistics], None]
_Item = TypeVar("_Item")
_LINE_ENDS: Final = tuple((chr(code).encode(), f"\\u{code:04x}".encode()) for code in (0x85, 0x2028, 0x2029))


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
    PARQUET: Format("a table of calls (needs pyarrow)", table_rows, "all", parquet=True),
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
    With `by="day"` it is a directory, where the days that have rows are replaced. There `since_ns` and `until_ns`
    select calls, and are extended to whole days.

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
    if options.by is not None and format_name != PARQUET:
        raise SettingError(f"by {options.by} applies only to {PARQUET}, not to {format_name}")
    if options.by is not None and options.limit is not None:
        raise SettingError("a limit would leave a part of a day: use since and until instead")
    row_format = FORMATS[format_name]
    statistics = Statistics()
    report: Progress = progress or (lambda _: None)
    selection = msgspec.structs.replace(selection, sort="start_ns", newest_first=False, limit=None, offset=0)
    if options.by is not None:
        since_ns, until_ns = whole_days(selection.since_ns, selection.until_ns)
        selection = msgspec.structs.replace(selection, since_ns=since_ns, until_ns=until_ns)
    selected = episodes(reader, selection, row_format.outside, statistics, by_calls=options.by is not None)
    selected_episodes = _with_progress(selected, statistics, report)
    if options.by is not None:
        rows = _counted(lake_rows(selected_episodes, options, statistics), statistics, report)
        _write_days(rows, target, statistics)
        return statistics
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


def _write_days(rows: Iterable[DayRow], target: str | Path | None, statistics: Statistics) -> None:
    if target is None:
        deque(rows, maxlen=0)
        return
    with lake(Path(target)) as new_days:
        new_days.write(rows)
        if statistics.rows:
            new_days.commit()


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


def _counted(rows: Iterable[_Item], statistics: Statistics, progress: Progress) -> Iterator[_Item]:
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
