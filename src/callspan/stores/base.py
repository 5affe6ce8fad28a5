"""Base: the `Reader` protocol of stores, its filters, the types it returns, and the times of a session's entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord
from callspan.record.formats import StoreError as StoreError  # noqa: PLC0414 - its place for stores
from callspan.record.formats import check_format
from callspan.record.labels import labels
from callspan.record.reward_sums import REWARD, Score

Event: TypeAlias = EventRecord | MessageRecord | RewardRecord
Grouping: TypeAlias = Literal["model", "provider", "session", "day", "hour", "minute", "user", "name", "experiment"]
"""The groupings of calls besides `meta:KEY`, the value of a metadata key of the call or its session.

Days, hours and minutes are in UTC: `2026-11-20`, `2026-11-20T08:00Z`, `2026-11-20T08:05Z`."""
Order: TypeAlias = Literal["start", "cost", "duration", "tokens", "retries"]
"""The sort keys of calls and sessions besides their start: cost, duration, tokens in and out, retries."""
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
Content: TypeAlias = Literal["all", "response", "none"]
"""The bodies to read of calls: both, that of the response, or none. Conversations have the same parts."""
IN_PROGRESS: Final = "in_progress"
"""The word for the outcome of a session that has none."""
MOST_CALLS: Final = 1000
"""Most calls that are followed from one back to the calls before it."""

Entry: TypeAlias = CallRecord | Event
"""The records in a session."""


@contextmanager
def on_error(close: Callable[[], object]) -> Iterator[None]:
    """Close what was opened if the block raises."""
    try:
        yield
    except BaseException:
        close()
        raise


class EmptyStoreError(StoreError):
    """Nothing was recorded in the store yet: the file or the tables do not exist."""


def no_file(path: Path) -> EmptyStoreError:
    """Return the error message for a store whose file does not exist."""
    spool = path.with_name(f"{path.name}.spool")
    if spool.is_dir():
        return EmptyStoreError(
            f"{path}: there is no such file, but its spool {spool} is there: "
            "the file was deleted or moved, or its records are still to be delivered (callspan ship)"
        )
    return EmptyStoreError(f"{path}: there is no such file; nothing was recorded there yet")


def check_layout(name: str, layout: int) -> None:
    """Raise EmptyStoreError where there are no tables (layout 0), OtherFormatError for those of another format."""
    if layout == 0:
        raise EmptyStoreError(f"{name}: no callspan tables yet: nothing was recorded there")
    check_format(name, layout)


def session_of(record: Record) -> str | None:
    """Return the id of the session that a record is of, or is; None: of none."""
    return record.place.session_id if isinstance(record, CallRecord) else record.session_id


def users_of(record: Record) -> list[str]:
    """Return the users that a record itself carries."""
    if isinstance(record, CallRecord | SessionRecord):
        user = record.user if isinstance(record, CallRecord) else record.user_id
        return [] if user is None else [user]
    return labels(record.metadata, "user_id")


class DeletionScope(NamedTuple):
    """What to delete: sessions with everything in them and single calls, by whole ids, or everything before a time."""

    sessions: frozenset[str] = frozenset()
    """With all calls, timesteps, events, messages and rewards in them."""
    calls: frozenset[str] = frozenset()
    """With the events, messages and rewards that name them. Those of the sessions may be among them."""
    user: str | None = None
    """Include events, timesteps, messages and rewards with this user in their own metadata."""
    older_than_ns: int | None = None
    """Everything from before this Unix time, and nothing else."""
    erased_ns: int = 0
    """When this was decided, Unix time: the store remembers the ids, and takes nothing of them from before it again."""

    def covers(self, record: Record) -> bool:
        """Return whether a record is of the user, one of the sessions, one of the calls, or about one."""
        is_named = getattr(record, "call_id", None) in self.calls or session_of(record) in self.sessions
        return is_named or self.user in users_of(record)


class RecordCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of records, by their table."""

    sessions: int = 0
    calls: int = 0
    timesteps: int = 0
    events: int = 0
    messages: int = 0
    rewards: int = 0


class CallIds(NamedTuple):
    """The ids of one call."""

    call_id: str
    """The call's id."""
    session_id: str | None
    """The id of its session; None: it is outside of sessions."""


def ids_of(call: CallRecord) -> CallIds:
    """Return the ids of a call."""
    return CallIds(call.call_id, call.place.session_id)


class CallSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls. A value that no call has is None, never 0."""

    calls: int
    """Number of calls."""
    errors: int
    """Number of calls with outcome error or timeout; cancelled calls are not errors."""
    cancelled: int = 0
    """Number of calls with outcome cancelled."""
    cut_off: int = 0
    """Number of calls whose stream stopped without its end."""
    cut_by_length: int = 0
    """Number of calls whose answer ended at the limit of tokens."""
    input_tokens: int | None = None
    """Sum, cached tokens included."""
    output_tokens: int | None = None
    """Sum, reasoning included."""
    retries: int | None = None
    """Sum of the SDK's retries."""
    cost_usd: Decimal | None = None
    """Sum in US dollars, exact."""
    calls_without_cost: int = 0
    """Number of calls whose cost is unknown."""


class Summary(CallSums, frozen=True, kw_only=True):
    """Sums over a group of calls; those without a value are left out of averages."""

    keys: tuple[str | None, ...] = ()
    """Value of each grouping: model, provider, session id, day (UTC, ISO), or a label; None: the calls without one."""
    cache_read_tokens: int | None = None
    """Sum of tokens read from the prompt cache."""
    reasoning_tokens: int | None = None
    """Sum of output tokens of reasoning."""
    p50_ms: float | None = None
    """Of the calls that succeeded; None where none has one, or where latencies were not requested."""
    p95_ms: float | None = None
    """As `p50_ms`."""
    ttft_p50_ms: float | None = None
    """Median time to the first token, of calls that succeeded and have one."""
    first_ns: int | None = None
    """Start of the first call, Unix nanoseconds."""
    last_ns: int | None = None
    """Start of the last call, Unix nanoseconds."""

    @property
    def key(self) -> str | None:
        """The value of the only grouping, or of the first one."""
        return self.keys[0]


class CallError(msgspec.Struct, frozen=True):
    """Why a call failed."""

    call_id: str
    """The call's id."""
    kind: str | None
    """As `ErrorInfo.kind`, such as `rate_limit`."""
    status: int | None
    """HTTP status; None without a response."""


class Run(NamedTuple):
    """When a call or a tool of a session ran."""

    kind: Literal["call", "tool"]
    start_ns: int
    duration_ns: int | None
    """Nanoseconds; None while it runs, or where unknown."""
    first_token_ns: int | None = None
    """Nanoseconds from the start to the first token; None where unknown, and for tools."""
    outcome: str | None = None
    """Of a call; of a tool `error` where it failed, else None."""
    retries: int | None = None
    """The SDK's retries of a call."""


class SessionSummary(CallSums, frozen=True, kw_only=True):
    """One session with its counts, and the sums over its calls."""

    session: SessionRecord
    """Its outcome reads `interrupted` where its process died before its end."""
    timesteps: int
    """Number of timesteps."""
    first_error: CallError | None = None
    """Why the first call failed that did; None: none failed."""
    events: int
    """Number of events, messages and rewards; the start of a run that has ended is not counted."""
    models: list[str]
    """The models of its calls, sorted."""
    reward: float | None = None
    """The last reward given to the session itself, else the sum of its events' rewards (objective `reward`)."""
    scores: dict[str, Score] = {}
    """The values given for each other objective, also to its calls."""
    active_ns: int | None = None
    """Nanoseconds in which a call or a tool of it ran, those at the same time once; None if no such time is known."""
    last_call_ns: int | None = None
    """Unix time in nanoseconds of the end of its last call, of its start if it has none."""
    last_ns: int | None = None
    """Unix time in nanoseconds of the last that happened in it."""

    @property
    def outcome(self) -> str:
        """The outcome of the session; `in_progress` without one."""
        return self.session.outcome or IN_PROGRESS

    @property
    def succeeded(self) -> bool | None:
        """Its own success, else that of its outcome; None if neither is known."""
        session = self.session
        if session.success is not None or session.outcome is None:
            return session.success
        return session.outcome == "success"

    def score(self, objective: str = REWARD) -> float | None:
        """Return its reward, or the mean of another objective; None if nothing was given for it."""
        if objective == REWARD:
            return self.reward
        return self.scores[objective].mean if objective in self.scores else None

    @property
    def duration_ns(self) -> int | None:
        """Its duration, up to the end of its last call if it has not ended; None if that or its start is unknown."""
        start, end = self.session.start_ns, self.session.end_ns or self.last_call_ns
        return None if start is None or end is None else max(0, end - start)


class History(NamedTuple):
    """The recorded calls that a call continues at the provider, as far as the links can be followed."""

    calls: list[CallRecord]
    """Oldest first, with their conversations; the call itself is not among them."""
    missing: str | None = None
    """Id of the response that no recorded call has: only the provider has the messages before it."""
    more: bool = False
    """There are still earlier calls, which were not read."""


def start_of(entry: Entry) -> int:
    """Return the start of a call or event in Unix nanoseconds."""
    return entry.timing.start_ns if isinstance(entry, CallRecord) else entry.time_ns


def duration_of(entry: Entry) -> int | None:
    """Return the duration in nanoseconds; None for an instant, or an entry that still runs."""
    if isinstance(entry, CallRecord):
        return entry.timing.duration_ns
    return entry.duration_ns if isinstance(entry, EventRecord) else None


def end_of(entry: Entry) -> int:
    """Return the end in Unix nanoseconds; of an entry without a duration its start."""
    return start_of(entry) + (duration_of(entry) or 0)


def step_of(entry: Entry) -> str | None:
    """Return the id of the timestep an entry belongs to; None: it belongs to the session itself."""
    return entry.place.timestep_id if isinstance(entry, CallRecord) else entry.timestep_id
