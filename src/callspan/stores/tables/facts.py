"""Facts: what is known of each kind of record, by its only name, defined once for tables, `--json`, page and exports.

Each fact is one line here: its name, where it is in the record, its form, and where it is shown. The columns of SQLite,
Postgres and ClickHouse (`callspan.stores.schema`, `callspan.stores.tables.rows`), the rows of `--json`, the page and
the Parquet table, `show`, and the list in `docs/sql.md` are made from these lines. The names are a public interface.
From release 0.1.0 on, a new column takes the next `FORMAT`: stores of another format are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import cache, partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias

PICO: Final = Decimal(10**12)
"""Picodollars per dollar."""
PICO_PER_MICRO: Final = 10**6
"""Picodollars per microdollar."""
REFERENCES: Final = ("request", "output", "contents")
"""Columns of `calls` that refer to contents by number or range, see `callspan.stores.tables.contents`."""
OWNER: Final = "owner"
"""Column of `calls`: the owner of the contents of a call that is or was in a run; NULL for its session or itself."""
OFFER: Final = "offer"
"""Column of `calls`: the hash by which a call outside of sessions may be continued, see `callspan.joining.joints`."""
GIVEN: Final = ("given_call_id", "given_session_id", "given_timestep_id")
"""Columns of `rewards` that name their call by another id than its own: what they stated before they were joined."""
STORED: Final = "stored_ns"
"""Column of every table: when the row was last written, by the store's clock. It is not part of the record. In
ClickHouse only the tables have it that writers insert into, not the views."""
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
Surface: TypeAlias = Literal["list", "page", "show"]
"""Where facts are shown. `list`: the rows of `--json` and of the Parquet table; `page`: the rows of the page; `show`:
`callspan show`, also of two records, in the terminal and on the page."""
CALL_IDS: Final = ("call_id", "response_id", "request_id", "span_id")
"""Columns of `calls` with the ids that a reward may name a call by."""
OTHER_IDS: Final = (*CALL_IDS[1:], "trace_id")
"""Columns of `calls` with the other ids that a call can be looked up by."""
LABELS: Final = ("organization_id", "project_id", "run_id", "agent_id", "workflow_id")
"""Columns of `calls` with a value of its metadata, besides `user_id` and `tags`."""
MAX_COUNT: Final = 2**40
"""Larger token counts are invalid: they stay in the record but not in sums, which would overflow."""


class Fact(NamedTuple):
    """One fact of a kind of record: its only name, where it is in the record, its form, and where it is shown."""

    name: str
    """The last words of its path, with its unit: `_ns`, `_s`, `_usd`, `_tokens`, `_bytes`."""
    path: tuple[str, ...]
    """Path of the field or property in the record; empty if only the store computes it."""
    form: Form
    """The type of its column; with the unit in its name, also its form as text."""
    required: bool = False
    """Never NULL."""
    note: str = ""
    """Note for the documentation, in Markdown."""
    surfaces: frozenset[str] = frozenset()
    """Where it is shown: values of `Surface`."""
    computed: bool = False
    """Whether it is computed from fields of the record: no row restores it."""
    has_column: bool = True
    sql: str = ""
    """SQL that computes the column from other columns; empty if the column is written."""


class Table(NamedTuple):
    """One kind of record and its table."""

    name: str
    kind: str
    """Tag of the record."""
    key: str
    facts: tuple[Fact, ...]
    """In table order. The column `extra` follows them, with the fields that have no column."""
    merges: bool = False
    """Whether a new version is merged with the stored row; otherwise the stored row stays."""

    def __hash__(self) -> int:
        """Return the hash of the kind: tables are keys of caches, and hashing all facts would be slow."""
        return hash((self.name, len(self.facts)))

    @property
    def columns(self) -> tuple[Fact, ...]:
        """The facts that have a column, also one that the database computes."""
        return _columns(self)

    @property
    def fields(self) -> tuple[Fact, ...]:
        """The facts with columns that restore a record."""
        return _fields(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns that are written, in order, `extra` last."""
        return _names(self)


@cache
def _columns(table: Table) -> tuple[Fact, ...]:
    return tuple(fact for fact in table.facts if fact.has_column)


@cache
def _fields(table: Table) -> tuple[Fact, ...]:
    return tuple(fact for fact in table.columns if not fact.computed)


@cache
def _names(table: Table) -> tuple[str, ...]:
    return (*(fact.name for fact in table.columns if not fact.sql), "extra")


@cache
def shown_in(table: Table, surface: Surface) -> tuple[Fact, ...]:
    """Return the facts shown on a surface, in table order."""
    return tuple(fact for fact in table.facts if surface in fact.surfaces)


def facts_of(table: Table, record: object, surface: Surface) -> dict[str, object]:
    """Return the facts of a record shown on a surface, by name; None is unknown. Money is a `Decimal`."""
    return values_of(shown_in(table, surface), record)


def values_of(facts: Iterable[Fact], record: object) -> dict[str, object]:
    """Return these facts of a record by name; None is unknown. Money is a `Decimal`."""
    return {fact.name: _value(record, fact.path) for fact in facts}


def _value(record: object, path: tuple[str, ...]) -> object:
    for name in path:
        record = None if record is None else getattr(record, name)
    return record


def _fact(form: Form, name: str, path: str | None = None, shown: str = "", **options: Any) -> Fact:
    """Return a fact; its path defaults to the field of the same name, `shown` lists its surfaces."""
    source = name if path is None else path
    return Fact(name, tuple(source.split(".")) if source else (), form, surfaces=frozenset(shown.split()), **options)


_text, _word, _int = partial(_fact, "text"), partial(_fact, "word"), partial(_fact, "int")
_count = partial(_fact, "count")
_flag, _real, _decimal = partial(_fact, "flag"), partial(_fact, "real"), partial(_fact, "decimal")
_json, _labels = partial(_fact, "json"), partial(_fact, "labels")
_BY_STORE: Final = ""
"""The path of a fact that only the store computes."""
_MODEL: Final = "coalesce(request_model, response_model)"

CALLS: Final = Table(
    name="calls",
    kind="call",
    key="call_id",
    facts=(
        _text("call_id", shown="list page", required=True),
        _word("part", required=True),
        _word("seen_in", required=True),
        _int("seen_ns"),
        _int("schema_version", required=True),
        _text("session_id", "place.session_id", "list page"),
        _word("session_name", "place.session_name", "list page"),
        _int("timestep", "place.timestep"),
        _text("timestep_id", "place.timestep_id", "list page"),
        _flag("inferred", "place.inferred", "list page", note="`session_id` is a run"),
        _text("previous_call_id", "place.previous_call_id", "list page", note="the call that this one continues"),
        _word("joined_by", "place.joined_by", "list page"),
        _text("trace_id", shown="list"),
        _text("span_id", shown="list"),
        _text("parent_span_id"),
        _flag("sampled"),
        _word("service"),
        _word("host"),
        _int("pid"),
        _word("process"),
        _word("model", shown="list page show", computed=True, sql=_MODEL, note="requested, else that of the answer"),
        _word("request_model", "request.model"),
        _word("response_model", "response.model", "list show"),
        _word("provider", shown="list show"),
        _word("api", shown="list show"),
        _word("operation", shown="list page"),
        _word("sdk"),
        _word("server_address"),
        _int("server_port"),
        _text("response_id", "response.id", "list"),
        _word("service_tier", "response.service_tier"),
        _flag("stream", "request.stream", "list"),
        _word("stream_end", "stream.end", "list show"),
        _int("chunks", "stream.chunks", "show", has_column=False),
        _word("outcome", shown="list page show"),
        _word(
            "finish_reason",
            shown="list show",
            computed=True,
            note="`response.finish`, else of a choice cut by length, else of the first",
        ),
        _json("finish_reasons", "response.finish_reasons", "list", has_column=False),
        _flag("cut_off", "is_cut_off", "page", computed=True, has_column=False),
        _flag("cut_by_length", "is_cut_by_length", "page", computed=True, has_column=False),
        _flag("waits_for_approval", shown="page", computed=True, has_column=False),
        _flag("refused", "response.refused", "list page", note="by the model, or by a filter"),
        _word("unanswered", shown="page", computed=True, has_column=False),
        _word("error_type", "error.type", "list"),
        _word("error_kind", "error.kind", "list page show"),
        _text("error_message", "error.message", "list"),
        _int("http_status", shown="list page", computed=True, note="of the error, else of the last attempt"),
        _int("retries", shown="list page show"),
        _int(
            "may_be_billed",
            shown="list page show",
            computed=True,
            note="requests without an answer, or its usage, that the provider may have billed; NULL without any",
        ),
        _flag("rate_limited", shown="list"),
        _int("start_ns", "timing.start_ns", "list page", required=True),
        _int("first_token_ns", "timing.first_token_ns", "list page show"),
        _int("duration_ns", "timing.duration_ns", "list page show"),
        _int("end_ns", _BY_STORE, computed=True),
        _int("server_ns", "timing.server_ns", "list show"),
        _count("input_tokens", "usage.input_tokens", "list page show"),
        _count("output_tokens", "usage.output_tokens", "list page show"),
        _count("total_tokens", "usage.total_tokens"),
        _count("cache_read_tokens", "usage.cache_read_tokens", "list page show"),
        _count("cache_write_tokens", "usage.cache_write_tokens", "list show"),
        _count("reasoning_tokens", "usage.reasoning_tokens", "list show"),
        _word("cached", "response.cached", "list page show"),
        _word("prompt_cache_miss", "response.prompt_cache_miss", "show"),
        _count("prompt_cache_missed_tokens", "response.prompt_cache_missed_tokens", "show"),
        _count("prompt_cache_reusable_tokens", "response.prompt_cache_reusable_tokens", "show"),
        _decimal("cost_usd", "cost.usd", "list page show", note="exact decimal; text in SQLite"),
        _int("cost_picousd", _BY_STORE, computed=True, note="whole picodollars, for sums; NULL if it does not fit"),
        _word("cost_source", "cost.source", "list show"),
        _flag("cost_estimated", "cost.estimated", "list page show", has_column=False),
        _json("params", "request.params"),
        _json("usage_raw", "usage.raw"),
        _json("attempts"),
        _json("metadata", shown="list page"),
        _text("request_id", shown="list", computed=True, note="the provider's, of the last attempt"),
        _text("user_id", shown="list page show", computed=True, note="of the metadata, else as sent to the provider"),
        _word("organization_id", _BY_STORE, computed=True, note="from the metadata, as are the five columns after it"),
        _word("project_id", _BY_STORE, computed=True),
        _text("run_id", _BY_STORE, computed=True),
        _word("agent_id", _BY_STORE, computed=True),
        _text("workflow_id", _BY_STORE, computed=True),
        _labels("tags", _BY_STORE, computed=True),
        _flag("unrecognized", "response.unrecognized", "list"),
        _flag("unread", "response.unread", "list page", has_column=False),
        _flag("unknown_finish", "response.unknown_finish", "list page"),
        _flag("tools_unlisted", "response.tools_unlisted", "list page", has_column=False),
        _int("request_body_bytes", "request.body_bytes"),
        _int("response_body_bytes", "response.body_bytes"),
        _text("batch_id", shown="list"),
        _text("custom_id", shown="list page", has_column=False),
        _text("continues", "request.continues"),
        _text("conversation_id", "request.conversation_id"),
        _word("content_level", shown="list"),
        _int("response_created_s", "response.created", note="Unix seconds, by the provider's clock"),
    ),
)
SESSIONS: Final = Table(
    name="sessions",
    kind="session",
    key="session_id",
    facts=(
        _text("session_id", shown="list page", required=True),
        _int("seen_ns", required=True),
        _int("schema_version", required=True),
        _word("name", shown="list page show"),
        _text("group_id", shown="list page show"),
        _text("task_id", shown="list page show"),
        _word("experiment", shown="list page show"),
        _word("user_id", shown="list page show"),
        _text("parent_session_id"),
        _text("trace_id", shown="list"),
        _text("span_id"),
        _word("service"),
        _word("host"),
        _int("pid"),
        _word("process"),
        _int("start_ns", shown="list page"),
        _int("resumed_ns"),
        _int("end_ns", shown="list"),
        _word("outcome"),
        _flag("success", shown="list"),
        _json("error"),
        _json("metadata", shown="list page"),
        _json("totals"),
        _json("redactions"),
        _word("content_level", shown="list page"),
        _text("parent_span_id"),
        _flag("sampled"),
    ),
    merges=True,
)
_summed: Final = partial(_fact, computed=True, has_column=False)
SUMMARIES: Final = Table(
    name="summaries",
    kind="summary",
    key="session_id",
    facts=(
        _summed("flag", "inferred", shown="list page show", note="a run, which nobody opened"),
        _summed("word", "outcome", shown="list page show"),
        _summed("flag", "succeeded", shown="list page show"),
        _summed("labels", "models", shown="list page show"),
        _summed("real", "reward", shown="list page show"),
        _summed("json", "scores", shown="list page"),
        _summed("int", "timesteps", shown="list page"),
        _summed("int", "calls", shown="list page"),
        _summed("int", "errors", shown="list page"),
        _summed("int", "cancelled", shown="list page"),
        _summed("int", "cut_off", shown="list page"),
        _summed("int", "cut_by_length", shown="list page"),
        _summed("int", "refused", shown="list page"),
        _summed("int", "retries", shown="list page"),
        _summed("json", "first_error", shown="list page"),
        _summed("int", "events", shown="list"),
        _summed("int", "input_tokens", shown="list page"),
        _summed("int", "output_tokens", shown="list page"),
        _summed("int", "cache_read_tokens", shown="list page"),
        _summed("int", "reasoning_tokens", shown="list"),
        _summed("real", "mean_input_tokens", shown="list"),
        _summed("real", "mean_output_tokens", shown="list"),
        _summed("int", "calls_without_usage", shown="list"),
        _summed("decimal", "cost_usd", shown="list page"),
        _summed("int", "calls_without_cost", shown="list page"),
        _summed("int", "may_be_billed", shown="list page"),
        _summed("int", "duration_ns", shown="list page"),
        _summed("int", "active_ns", shown="list page"),
    ),
)
"""What is known of a session from its calls and events: no table, but fields of `SessionSummary`."""
TIMESTEPS: Final = Table(
    name="timesteps",
    kind="timestep",
    key="timestep_id",
    facts=(
        _text("timestep_id", shown="list page", required=True),
        _text("session_id"),
        _int("seen_ns", required=True),
        _int("schema_version", required=True),
        _int("timestep", "index", "list", note="its `index` in its process; readers compute the position"),
        _word("name", shown="list page"),
        _int("turn", shown="list page"),
        _text("parent_timestep_id", shown="page"),
        _text("trace_id"),
        _text("span_id"),
        _int("start_ns", shown="list page"),
        _int("end_ns", shown="list"),
        _word("outcome", shown="list page"),
        _flag("terminated", shown="list page"),
        _flag("truncated", shown="list page"),
        _json("error"),
        _json("metadata"),
        _json("totals", shown="list"),
        _json("redactions"),
        _text("user_step_id", shown="list page"),
        _text("parent_span_id"),
        _flag("sampled"),
    ),
    merges=True,
)
EVENTS: Final = Table(
    name="events",
    kind="event",
    key="event_id",
    facts=(
        _text("event_id", required=True),
        _text("session_id"),
        _int("schema_version", required=True),
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
    facts=(
        _text("message_id", required=True),
        _text("session_id"),
        _int("schema_version", required=True),
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
    facts=(
        _text("reward_id", required=True),
        _text("session_id"),
        _int("schema_version", required=True),
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
