"""Columns: which column of which table holds which field of a record, the same in every SQL store.

Column names are a public interface (schema 1). A record becomes a row of columns plus `extra`, the JSON of
everything no column holds; together they give the record back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.record.codec import encode_json
from callspan.record.events import Record

_INT_LIMIT: Final = 2**63
PICO: Final = Decimal(10) ** 12
"""Picodollars in a dollar."""

Cell: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = dict[str, Cell]
Tree: TypeAlias = dict[str, object]
Form: TypeAlias = Literal["text", "int", "flag", "real", "json"]


class Column(NamedTuple):
    """One column and the field it holds."""

    name: str
    path: tuple[str, ...]
    form: Form = "text"


class Table(NamedTuple):
    """One kind of record and its table."""

    name: str
    kind: str
    """Tag of the record."""
    key: str
    columns: tuple[Column, ...]
    derived: tuple[str, ...] = ()
    """Columns that are computed from the record and not read back into it."""
    merges: bool = False
    """True: all versions are heard, see `callspan.stores.merging`; False: see `versioned`."""
    versioned: bool = False
    """True: a higher `rec_version` replaces the row; else the first row stays."""

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in order, `extra` last."""
        return (*(column.name for column in self.columns), *self.derived, "extra")


def _columns(form: Form, **paths: str) -> tuple[Column, ...]:
    return tuple(Column(name, tuple(path.split(".")), form) for name, path in paths.items())


def _same(form: Form, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, (name,), form) for name in names)


CALLS: Final = Table(
    name="calls",
    kind="call",
    key="call_id",
    columns=(
        *_same("text", "call_id"),
        *_columns("int", rec_version="record_version", schema_v="schema_version"),
        *_columns("text", session_id="place.session_id", session_name="place.session_name"),
        *_columns("int", timestep="place.timestep"),
        *_columns("text", timestep_id="place.timestep_id", parent_call_id="place.parent_call_id"),
        *_same("text", "trace_id", "span_id", "parent_span_id"),
        *_same("flag", "sampled"),
        *_same("text", "service", "host"),
        *_same("int", "pid"),
        *_same("text", "provider", "api", "operation", "sdk", "server_address"),
        *_same("int", "server_port"),
        *_columns("text", model_req="request.model", model_resp="response.model", response_id="response.id"),
        *_columns("text", service_tier="response.service_tier"),
        *_columns("flag", stream="request.stream"),
        *_columns("text", stream_end="stream.end", outcome="outcome"),
        *_columns("text", error_type="error.type", error_kind="error.kind", error_message="error.message"),
        *_same("int", "retries"),
        *_same("flag", "rate_limited"),
        *_columns("int", start_ns="timing.start_ns", ttft_ns="timing.first_token_ns", duration_ns="timing.duration_ns"),
        *_columns("int", in_tok="usage.input_tokens", out_tok="usage.output_tokens", total_tok="usage.total_tokens"),
        *_columns("int", cache_read_tok="usage.cache_read_tokens", cache_write_tok="usage.cache_write_tokens"),
        *_columns("int", reasoning_tok="usage.reasoning_tokens"),
        *_columns("text", cost_usd="cost.usd", price_v="cost.source"),
        *_columns("json", params="request.params", usage_raw="usage.raw", attempts="attempts", metadata="metadata"),
    ),
    derived=("finish_reason", "http_status", "end_ns", "cost_picousd"),
    versioned=True,
)

SESSIONS: Final = Table(
    name="sessions",
    kind="session",
    key="session_id",
    columns=(
        *_same("text", "session_id"),
        *_columns("int", rec_version="record_version", schema_v="schema_version"),
        *_same("text", "name", "group_id", "task_id", "experiment", "user_id", "parent_session_id"),
        *_same("text", "trace_id", "span_id", "service", "host"),
        *_same("int", "pid", "start_ns", "end_ns"),
        *_same("text", "outcome"),
        *_same("flag", "success"),
        *_same("json", "error", "metadata", "totals", "redactions"),
    ),
    derived=("stamps",),
    merges=True,
)

TIMESTEPS: Final = Table(
    name="timesteps",
    kind="timestep",
    key="timestep_id",
    columns=(
        *_same("text", "timestep_id", "session_id"),
        *_columns("int", rec_version="record_version", schema_v="schema_version", timestep="index"),
        *_same("text", "name"),
        *_same("int", "turn"),
        *_same("text", "parent_timestep_id", "trace_id", "span_id"),
        *_same("int", "start_ns", "end_ns"),
        *_same("text", "outcome"),
        *_same("flag", "terminated", "truncated"),
        *_same("json", "error", "metadata", "totals", "redactions"),
    ),
    derived=("stamps",),
    merges=True,
)

EVENTS: Final = Table(
    name="events",
    kind="event",
    key="event_id",
    columns=(
        *_same("text", "event_id", "session_id"),
        *_columns("int", schema_v="schema_version"),
        *_same("text", "timestep_id"),
        *_same("int", "timestep"),
        *_same("text", "call_id", "event_type", "name"),
        *_same("int", "time_ns", "duration_ns", "sequence"),
        *_same("text", "system", "tool_call_id"),
        *_same("real", "reward"),
        *_same("flag", "terminated", "truncated"),
        *_same("json", "data", "error", "flags", "metadata"),
    ),
)

MESSAGES: Final = Table(
    name="messages",
    kind="message",
    key="message_id",
    columns=(
        *_same("text", "message_id", "session_id"),
        *_columns("int", schema_v="schema_version"),
        *_same("text", "timestep_id"),
        *_same("int", "timestep"),
        *_same("text", "call_id", "message_type", "sender", "receiver"),
        *_same("int", "time_ns", "sequence"),
        *_same("json", "content", "causal_influence", "flags", "metadata"),
    ),
)

REWARDS: Final = Table(
    name="rewards",
    kind="reward",
    key="reward_id",
    columns=(
        *_same("text", "reward_id", "session_id"),
        *_columns("int", schema_v="schema_version"),
        *_same("text", "timestep_id"),
        *_same("int", "timestep"),
        *_same("text", "event_id", "call_id", "objective"),
        *_same("real", "value"),
        *_same("text", "label", "scope", "source", "annotation"),
        *_same("int", "time_ns"),
        *_same("json", "metadata"),
    ),
)

TABLES: Final = {table.kind: table for table in (CALLS, SESSIONS, TIMESTEPS, EVENTS, MESSAGES, REWARDS)}
"""Tables by the tag of their records."""


def on_conflict(table: Table, names: Sequence[str]) -> str:
    """Return the ON CONFLICT clause: replace by a newer version, by what was merged, or keep the first row."""
    start = f"ON CONFLICT ({table.key}) DO "
    if not table.versioned and not table.merges:
        return f"{start}NOTHING"
    sets = ", ".join(f"{name} = excluded.{name}" for name in names if name != table.key)
    newer = f" WHERE excluded.rec_version > {table.name}.rec_version" if table.versioned else ""
    return f"{start}UPDATE SET {sets}{newer}"


def to_row(table: Table, record: Record, tree: Tree) -> Row:
    """Return the row of a record. `tree` is its JSON without bodies and is used up."""
    row: Row = dict.fromkeys(table.names)
    for column in table.columns:
        cell = _cell(record, column)
        if cell is not None:
            row[column.name] = cell
            _take(tree, column.path)
    tree.pop("kind", None)
    row["extra"] = encode_json(tree).decode() if tree else None
    return row


def to_tree(table: Table, row: Mapping[str, object]) -> Tree:
    """Return the JSON tree of the record a row holds, without bodies. Raises msgspec.DecodeError for no JSON."""
    extra = row["extra"]
    tree: Tree = msgspec.json.decode(extra) if isinstance(extra, str | bytes) else {}
    tree["kind"] = table.kind
    for column in table.columns:
        cell = row[column.name]
        if cell is not None:
            _put(tree, column.path, _field(cell, column.form))
    return tree


def _cell(record: Record, column: Column) -> Cell:
    """The value of a column; None where it is unknown or does not fit and stays in `extra`."""
    value: object = record
    for name in column.path:
        value = getattr(value, name, None)
    if column.form == "json":
        return None if value is None or value in ([], {}) else encode_json(value).decode()
    if isinstance(value, bool | int):
        return int(value) if -_INT_LIMIT <= value < _INT_LIMIT else None
    if isinstance(value, Decimal):
        return format(value, "f")
    return value if isinstance(value, str | float) else None


def _field(cell: object, form: Form) -> object:
    if form == "flag":
        return bool(cell)
    if form == "json" and isinstance(cell, str | bytes):
        return msgspec.Raw(cell) if isinstance(cell, bytes) else msgspec.json.decode(cell)
    return cell


def _take(tree: Tree, path: tuple[str, ...]) -> None:
    """Remove what lies at `path`, and the object around it once that is empty."""
    inner = tree.get(path[0])
    if len(path) == 1:
        tree.pop(path[0], None)
    elif isinstance(inner, dict):
        inner.pop(path[1], None)
        if not inner:
            del tree[path[0]]


def _put(tree: Tree, path: tuple[str, ...], value: object) -> None:
    inner: Tree = tree
    for name in path[:-1]:
        found = inner.setdefault(name, {})
        inner = found if isinstance(found, dict) else {}
    inner[path[-1]] = value
