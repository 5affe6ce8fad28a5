"""Lake: calls and their messages as Parquet files by day, in the hive layout that DuckDB, Polars and Spark read.

    calls/day=2026-11-28/part-0.parquet
    messages/day=2026-11-28/part-0.parquet

A call names its messages by number; each message of a session is once in a day. So a conversation of n turns takes n
messages, not n² / 2. All that the calls of a day name is in the same day.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TypeAlias

from callspan.datasets.chat_messages import ChatMessage
from callspan.datasets.fine_tuning import Row
from callspan.datasets.lineage import Turn
from callspan.datasets.parquet import FACTS, GROUP_ROWS, fact_rows, pyarrow
from callspan.datasets.selection import Episode, Options, Statistics
from callspan.datasets.token_ids import tokens_of
from callspan.records import encode_json
from callspan.runtime.output_file import Replacement

CALLS: Final = FACTS | {
    "prompt_ids": "list int64",
    "answer_id": "int64",
    "prompt_token_ids": "list int32",
    "answer_token_ids": "list int32",
    "answer_logprobs": "list float64",
}
"""The columns of calls and their types. `prompt_ids` and `answer_id` are `message_id` of messages. Token ids are as the
server returned them, with a log-probability for each of the answer's; None if it returned none, or another number of
them than it counted."""
MESSAGES: Final = {
    "message_id": "int64",
    "session_id": "string",
    "call_id": "string",
    "role": "string",
    "message": "string",
}
"""The columns of messages and their types. `message` is JSON in OpenAI's format, `call_id` the first call of the day
that has the message; without a session, the only one."""
_TABLES: Final = {"messages": MESSAGES, "calls": CALLS}
"""Messages first: whoever reads a call while the files are replaced finds its messages."""
_NS_PER_DAY: Final = 24 * 3600 * 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INT32: Final = range(-(2**31), 2**31)
_GROUP_VALUES: Final = 1 << 21
"""The maximum number of characters and list items in a row group, which is in memory."""
_OPEN_DAYS: Final = 100
"""The maximum number of days with an open file; a process may have some hundred files."""
_PAGE_BYTES: Final = 4 << 20
"""Prompts repeat their beginning: zstd finds it within a page."""
DayRow: TypeAlias = tuple[str, Row, list[Row]]
"""The day of a call, its row, and the messages that are new on this day."""


def whole_days(since_ns: int | None, until_ns: int | None) -> tuple[int | None, int | None]:
    """Return a range of Unix times in nanoseconds, extended to whole days (UTC); None is no bound."""
    since = None if since_ns is None else since_ns // _NS_PER_DAY * _NS_PER_DAY
    until = None if until_ns is None else -(-until_ns // _NS_PER_DAY) * _NS_PER_DAY
    return since, until


def lake_rows(selected_episodes: Iterable[Episode], options: Options, statistics: Statistics) -> Iterator[DayRow]:
    """Yield each call with its day and the messages that no earlier call of its session has on this day."""
    written = _Messages()
    for episode, turn, row in fact_rows(selected_episodes, options, statistics):
        day = (_EPOCH + timedelta(days=turn.call.timing.start_ns // _NS_PER_DAY)).date().isoformat()
        written.begin(turn, episode.id, day)
        row["prompt_ids"] = [written.add(message) for message in turn.messages]
        row["answer_id"] = written.add(turn.answer)
        yield day, row | _tokens(turn), written.new


class _Messages:
    """The messages of one session, or of one call outside of sessions, that are written."""

    def __init__(self) -> None:
        self.new: list[Row] = []
        """The rows of the call's messages that are not written yet."""
        self._owner = ""
        self._origin: Row = {}
        self._day = ""
        self._days: dict[int, set[str]] = {}
        """The days on which a message is written, by its id."""
        self._ids: dict[int, tuple[ChatMessage, int]] = {}
        """Ids by object: those of a long history are the same objects in each of its calls."""

    def begin(self, turn: Turn, session_id: str, day: str) -> None:
        """Begin a call."""
        owner = session_id or turn.call.call_id
        if owner != self._owner:
            self._owner, self._days, self._ids = owner, {}, {}
        self._origin = {"session_id": session_id or None, "call_id": turn.call.call_id}
        self._day, self.new = day, []

    def add(self, message: ChatMessage) -> int:
        """Return the id of a message of the call."""
        known = self._ids.get(id(message))
        text = None if known else encode_json(message)
        message_id = known[1] if known else _id_of(self._owner, text or b"")
        self._ids[id(message)] = message, message_id
        days = self._days.setdefault(message_id, set())
        if self._day not in days:
            days.add(self._day)
            json = (encode_json(message) if text is None else text).decode()
            self.new.append({"message_id": message_id, **self._origin, "role": message["role"], "message": json})
        return message_id


def _id_of(owner: str, text: bytes) -> int:
    """Return the id of a message: the same in each export, another one in each session."""
    digest = hashlib.blake2b(text, digest_size=8, key=hashlib.sha256(owner.encode("utf-8", "surrogatepass")).digest())
    return int.from_bytes(digest.digest(), "big", signed=True)


def _tokens(turn: Turn) -> Row:
    tokens = tokens_of(turn.call)
    if tokens is None or tokens.misfit is not None:
        return {}
    if not all(token in _INT32 for token in (*tokens.prompt_ids, *tokens.completion_ids)):
        return {}
    return {
        "prompt_token_ids": tokens.prompt_ids,
        "answer_token_ids": tokens.completion_ids,
        "answer_logprobs": tokens.completion_logprobs,
    }


@contextmanager
def lake(directory: Path) -> Iterator[Lake]:
    """Yield a lake to write to: an empty one, whose days replace those of the directory on `commit`.

    Raises OSError if the directory cannot be made, SettingError if pyarrow is not installed.
    """
    pyarrow()
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        new_files = stack.enter_context(tempfile.TemporaryDirectory(dir=directory, prefix=".callspan-"))
        written = Lake(directory, Path(new_files))
        stack.callback(written.close)
        yield written


class Lake:
    """New files of days, in a directory of their own until they replace the earlier ones."""

    def __init__(self, directory: Path, new_files: Path) -> None:
        self._directory = directory
        self._tables = {name: _Table(new_files / name, columns) for name, columns in _TABLES.items()}

    def write(self, rows: Iterable[DayRow]) -> None:
        """Write calls and messages. Raises OSError."""
        for day, call, messages in rows:
            self._tables["messages"].add(day, messages)
            self._tables["calls"].add(day, [call])

    def commit(self) -> None:
        """Replace each day that was written, file by file; the other days stay. Raises OSError."""
        self.close()
        for name, table in self._tables.items():
            for day, files in table.files.items():
                target = self._directory / name / f"day={day}"
                target.mkdir(parents=True, exist_ok=True)
                for file in files:
                    Replacement(file, target / file.name).commit()
                names = {file.name for file in files}
                for earlier in target.glob("part-*.parquet"):
                    if earlier.name not in names:
                        earlier.unlink()

    def close(self) -> None:
        """Write what is buffered, and close the files. Raises OSError."""
        for table in self._tables.values():
            table.close()


class _Table:
    """The files of one table, by day."""

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        arrow, _ = pyarrow()
        self.files: dict[str, list[Path]] = {}
        self._path = path
        self._schema = arrow.schema([(name, _type(arrow, kind)) for name, kind in columns.items()])
        # Repeated texts are once in a row group; zstd finds repeated lists, whose items lie as they are.
        self._texts = [name for name, kind in columns.items() if kind == "string"]
        self._open: dict[str, _File] = {}

    def add(self, day: str, rows: list[Row]) -> None:
        if not rows:
            return
        if (file := self._open.get(day)) is None:
            if len(self._open) >= _OPEN_DAYS:
                self._open.pop(next(iter(self._open))).close()
            file = self._open[day] = self._file(day)
        file.add(rows)

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _file(self, day: str) -> _File:
        files = self.files.setdefault(day, [])
        path = self._path / f"day={day}" / f"part-{len(files)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        files.append(path)
        _, parquet = pyarrow()
        writer = parquet.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=self._texts, data_page_size=_PAGE_BYTES
        )
        return _File(writer, self._schema)


class _File:
    """One Parquet file, with the rows of its next row group."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._rows: list[Row] = []
        self._values = 0

    def add(self, rows: list[Row]) -> None:
        self._rows += rows
        self._values += sum(len(value) for row in rows for value in row.values() if isinstance(value, str | list))
        if len(self._rows) >= GROUP_ROWS or self._values >= _GROUP_VALUES:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            arrow, _ = pyarrow()
            self._writer.write_table(arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._values = [], 0


def _type(arrow: Any, kind: str) -> Any:
    """Return the type of a column by its name; `list int64` is a list."""
    is_list = kind.startswith("list ")
    item = arrow.type_for_alias(kind.removeprefix("list "))
    return arrow.list_(item) if is_list else item
