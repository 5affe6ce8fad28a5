"""Columns: the layout of the tables, defined once for every SQL store; column names are a public interface.

Each column is one line here: its name, the field of the record that it holds, and its form. The DDL of SQLite, Postgres
and ClickHouse (`callspan.stores.schema`), the rows (`callspan.stores.rows`) and the list in `docs/sql.md` are made from
it. A new field takes one line and the next `FORMAT`: stores of another format are rejected, see
`callspan.record.formats`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache, partial
from typing import Final, Literal, NamedTuple, TypeAlias

PICO: Final = Decimal(10) ** 12
"""Picodollars per dollar."""
PICO_PER_MICRO: Final = 10**6
"""Picodollars per microdollar."""
REFERENCES: Final = ("request", "output", "contents")
"""Columns of `calls` that refer to contents by number or range, see `callspan.stores.contents`."""
STORED: Final = "stored_ns"
"""Column of every table in SQLite and Postgres: when the row was last written, by the store's clock. It is not part of
the record."""
CONTENTS: Final = {
    "calls": (*REFERENCES, "error_message"),
    "sessions": ("error",),
    "timesteps": ("error",),
    "events": ("data", "error"),
    "messages": ("content",),
    "rewards": ("annotation",),
}
"""Columns with the content of a record, by table. If any of them is set, `extra` may also have content."""

Form: TypeAlias = Literal["text", "word", "int", "count", "flag", "real", "decimal", "json", "labels"]
"""A `word` is text with few distinct values; a `count` can be summed and is at most `MAX_COUNT`; `labels` are a JSON
array of strings, in Postgres `jsonb`."""
CALL_IDS: Final = ("call_id", "response_id", "request_id", "span_id")
"""Columns of `calls` by which a reward may name a call."""
OTHER_IDS: Final = (*CALL_IDS[1:], "trace_id")
"""Columns of `calls` by which a call is found besides its own id."""
LABELS: Final = ("organization_id", "project_id", "run_id", "agent_id", "workflow_id")
"""Columns of `calls` with a value of its metadata, besides `user_id` and `tags`."""
MAX_COUNT: Final = 2**40
"""Larger token counts are invalid: they stay in the record but not in sums, which would overflow."""


class Column(NamedTuple):
    """One column and the field it holds."""

    name: str
    path: tuple[str, ...]
    """Path of the field in the record; empty for a computed column, which readers ignore."""
    form: Form
    required: bool = False
    """Never NULL."""
    note: str = ""
    """Note for the documentation, in Markdown."""


class Table(NamedTuple):
    """One kind of record and its table."""

    name: str
    kind: str
    """Tag of the record."""
    key: str
    columns: tuple[Column, ...]
    """In table order, without `extra`, which follows them."""
    merges: bool = False
    """Whether a new version is merged with the stored row; otherwise the stored row stays."""

    def __hash__(self) -> int:
        """Return the hash of the kind: tables are keys of caches, and hashing all columns would be slow."""
        return hash((self.name, len(self.columns)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns in order, `extra` last."""
        return _names(self)


@cache
def _names(table: Table) -> tuple[str, ...]:
    return (*(column.name for column in table.columns), "extra")


def _column(form: Form, name: str, path: str | None = None, *, required: bool = False, note: str = "") -> Column:
    """Return a column; its path defaults to the field of the same name."""
    place = name if path is None else path
    return Column(name, tuple(place.split(".")) if place else (), form, required, note)


_text, _word, _int = partial(_column, "text"), partial(_column, "word"), partial(_column, "int")
_count = partial(_column, "count")
_flag, _real, _decimal = partial(_column, "flag"), partial(_column, "real"), partial(_column, "decimal")
_json, _labels = partial(_column, "json"), partial(_column, "labels")
_COMPUTED: Final = ""

CALLS: Final = Table(
    name="calls",
    kind="call",
    key="call_id",
    columns=(
        _text("call_id", required=True),
        _word("part", required=True),
        _word("seen_in", required=True),
        _int("seen_ns"),
        _int("schema_v", "schema_version", required=True),
        _text("session_id", "place.session_id"),
        _word("session_name", "place.session_name"),
        _int("timestep", "place.timestep"),
        _text("timestep_id", "place.timestep_id"),
        _text("trace_id"),
        _text("span_id"),
        _text("parent_span_id"),
        _flag("sampled"),
        _word("service"),
        _word("host"),
        _int("pid"),
        _word("process"),
        _word("provider"),
        _word("api"),
        _word("operation"),
        _word("sdk"),
        _word("server_address"),
        _int("server_port"),
        _word("model_req", "request.model"),
        _word("model_resp", "response.model"),
        _text("response_id", "response.id"),
        _word("service_tier", "response.service_tier"),
        _flag("stream", "request.stream"),
        _word("stream_end", "stream.end"),
        _word("outcome"),
        _word("finish_reason", _COMPUTED, note="the first choice cut by length, else the first choice"),
        _word("error_type", "error.type"),
        _word("error_kind", "error.kind"),
        _text("error_message", "error.message"),
        _int("http_status", _COMPUTED),
        _int("retries"),
        _flag("rate_limited"),
        _int("start_ns", "timing.start_ns", required=True),
        _int("ttft_ns", "timing.first_token_ns"),
        _int("duration_ns", "timing.duration_ns"),
        _int("end_ns", _COMPUTED),
        _count("in_tok", "usage.input_tokens"),
        _count("out_tok", "usage.output_tokens"),
        _count("total_tok", "usage.total_tokens"),
        _count("cache_read_tok", "usage.cache_read_tokens"),
        _count("cache_write_tok", "usage.cache_write_tokens"),
        _count("reasoning_tok", "usage.reasoning_tokens"),
        _decimal("cost_usd", "cost.usd", note="exact decimal; text in SQLite"),
        _int("cost_picousd", _COMPUTED, note="the same in whole picodollars, for sums; NULL if it does not fit"),
        _word("price_v", "cost.source"),
        _json("params", "request.params"),
        _json("usage_raw", "usage.raw"),
        _json("attempts"),
        _json("metadata"),
        _text("request_id", _COMPUTED, note="the provider's, of the last attempt"),
        _text("user_id", _COMPUTED, note="from the metadata, else as sent to the provider"),
        _word("organization_id", _COMPUTED, note="from the metadata, as are the five columns after it"),
        _word("project_id", _COMPUTED),
        _text("run_id", _COMPUTED),
        _word("agent_id", _COMPUTED),
        _text("workflow_id", _COMPUTED),
        _labels("tags", _COMPUTED),
        _int("server_ns", "timing.server_ns"),
        _flag("unrecognized", "response.unrecognized"),
        _flag("unknown_finish", "response.unknown_finish"),
        _flag("tools_unlisted", "response.tools_unlisted"),
        _int("request_bytes", "request.body_bytes"),
        _int("response_bytes", "response.body_bytes"),
        _text("batch_id"),
        _text("continues", "request.continues"),
        _text("conversation_id", "request.conversation_id"),
        _word("content_level"),
        _int("response_created", "response.created", note="Unix seconds, by the provider's clock"),
        _word("cached", "response.cached"),
        _word("prompt_cache_miss", "response.prompt_cache_miss"),
        _count("prompt_cache_missed_tok", "response.prompt_cache_missed_tokens"),
        _count("prompt_cache_reusable_tok", "response.prompt_cache_reusable_tokens"),
    ),
)
SESSIONS: Final = Table(
    name="sessions",
    kind="session",
    key="session_id",
    columns=(
        _text("session_id", required=True),
        _int("seen_ns", required=True),
        _int("schema_v", "schema_version", required=True),
        _word("name"),
        _text("group_id"),
        _text("task_id"),
        _word("experiment"),
        _word("user_id"),
        _text("parent_session_id"),
        _text("trace_id"),
        _text("span_id"),
        _word("service"),
        _word("host"),
        _int("pid"),
        _word("process"),
        _int("start_ns"),
        _int("end_ns"),
        _word("outcome"),
        _flag("success"),
        _json("error"),
        _json("metadata"),
        _json("totals"),
        _json("redactions"),
        _word("content_level"),
        _text("parent_span_id"),
        _flag("sampled"),
    ),
    merges=True,
)
TIMESTEPS: Final = Table(
    name="timesteps",
    kind="timestep",
    key="timestep_id",
    columns=(
        _text("timestep_id", required=True),
        _text("session_id"),
        _int("seen_ns", required=True),
        _int("schema_v", "schema_version", required=True),
        _int("timestep", "index", note="its `index` in its process; readers compute the position"),
        _word("name"),
        _int("turn"),
        _text("parent_timestep_id"),
        _text("trace_id"),
        _text("span_id"),
        _int("start_ns"),
        _int("end_ns"),
        _word("outcome"),
        _flag("terminated"),
        _flag("truncated"),
        _json("error"),
        _json("metadata"),
        _json("totals"),
        _json("redactions"),
        _text("user_step_id"),
        _text("parent_span_id"),
        _flag("sampled"),
    ),
    merges=True,
)
EVENTS: Final = Table(
    name="events",
    kind="event",
    key="event_id",
    columns=(
        _text("event_id", required=True),
        _text("session_id"),
        _int("schema_v", "schema_version", required=True),
        _text("timestep_id"),
        _int("timestep"),
        _text("call_id"),
        _word("event_type"),
        _word("name"),
        _int("time_ns"),
        _int("duration_ns"),
        _int("sequence"),
        _word("system"),
        _text("tool_call_id"),
        _real("reward"),
        _flag("terminated"),
        _flag("truncated"),
        _json("data"),
        _json("error"),
        _json("metadata"),
        _int("external_sequence"),
        _text("trace_id", note="NULL if it is that of its timestep"),
        _text("span_id", note="NULL if it has no span of its own"),
        _text("parent_span_id"),
        _flag("sampled"),
    ),
)
MESSAGES: Final = Table(
    name="messages",
    kind="message",
    key="message_id",
    columns=(
        _text("message_id", required=True),
        _text("session_id"),
        _int("schema_v", "schema_version", required=True),
        _text("timestep_id"),
        _int("timestep"),
        _text("call_id"),
        _word("message_type"),
        _word("sender"),
        _word("receiver"),
        _int("time_ns"),
        _int("sequence"),
        _json("content"),
        _json("causal_influence"),
        _json("metadata"),
        _int("external_sequence"),
    ),
)
REWARDS: Final = Table(
    name="rewards",
    kind="reward",
    key="reward_id",
    columns=(
        _text("reward_id", required=True),
        _text("session_id"),
        _int("schema_v", "schema_version", required=True),
        _text("timestep_id"),
        _int("timestep"),
        _text("event_id"),
        _text("call_id"),
        _word("objective"),
        _real("value"),
        _text("label"),
        _word("scope"),
        _word("source"),
        _text("annotation"),
        _int("time_ns"),
        _json("metadata"),
    ),
)

TABLES: Final = {table.kind: table for table in (CALLS, SESSIONS, TIMESTEPS, EVENTS, MESSAGES, REWARDS)}
"""Tables by the tag of their records."""
