"""Base: the types that readers of stores return, the scope of a deletion, and the times of a session's entries."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec

from callspan.record.call import CallRecord
from callspan.record.events import (
    SCOPE_TYPES,
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
)
from callspan.record.formats import StoreError as StoreError  # noqa: PLC0414 - its place for stores
from callspan.record.formats import check_format
from callspan.record.reward_sums import REWARD, Score
from callspan.runtime.background import on_own_thread
from callspan.stores.owners import users_of

_E = TypeVar("_E", bound=Exception)
Event: TypeAlias = EventRecord | MessageRecord | RewardRecord
Grouping: TypeAlias = Literal["model", "provider", "session", "day", "hour", "minute", "user", "name", "experiment"]
"""The groupings of calls besides `meta:KEY`, the value of a metadata key of the call or its session.

Days, hours and minutes are in UTC: `2026-11-20`, `2026-11-20T08:00Z`, `2026-11-20T08:05Z`."""
Order: TypeAlias = Literal["start_ns", "cost_usd", "duration_ns", "tokens", "retries", "score"]
"""The sort keys of calls and sessions besides their start: cost, duration, tokens in and out, retries, score."""
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
Content: TypeAlias = Literal["all", "response", "none"]
"""The bodies to read with each call: both, only the response's, or neither. A conversation gets the same parts."""
IN_PROGRESS: Final = "in_progress"
"""The outcome to show for a session without one."""
MAX_CALLS: Final = 1000
"""Limit on the earlier calls that are followed back from a call."""

Entry: TypeAlias = CallRecord | Event
"""The records in a session."""


@contextmanager
def on_error(close: Callable[[], object]) -> Iterator[None]:
    """Call `close` if the block raises."""
    try:
        yield
    except BaseException:
        close()
        raise


@contextmanager
def explained(name: object, kind: type[_E], advice: Callable[[_E], str | None]) -> Iterator[None]:
    """Context manager that turns a driver's error into a StoreError if `advice` returns text for it."""
    try:
        yield
    except kind as error:
        text = advice(error)
        if text is None:
            raise
        raise StoreError(f"{name}: {text}") from error


def quiet(*packages: str) -> None:
    """Drop what the packages of a driver log on callspan's threads: callspan logs outages itself."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in packages:
            logging.getLogger(name).addFilter(_is_of_application)  # adding the same function again has no effect


def _is_of_application(_: logging.LogRecord) -> bool:
    return not on_own_thread()


class EmptyStoreError(StoreError):
    """Nothing was recorded in the store yet: the file or the tables do not exist."""


def no_file(path: Path) -> StoreError:
    """Return the error for a path that does not exist or is no regular file."""
    if path.exists() and not path.is_file():
        return StoreError(f"{path} is {'a directory' if path.is_dir() else 'no regular file'}: name a file")
    spool = Path(f"{os.path.realpath(path)}.spool")
    if spool.is_dir():
        return EmptyStoreError(
            f"{path}: there is no such file, but its spool {spool} is there: "
            "the file was deleted or moved, or its records are still to be delivered (callspan ship)"
        )
    return EmptyStoreError(f"{path}: there is no such file; nothing was recorded there yet")


def check_layout(name: str, layout: int) -> None:
    """Raise EmptyStoreError if there are no tables (layout 0), OtherFormatError if they have another format."""
    if layout == 0:
        raise EmptyStoreError(f"{name}: no callspan tables yet: nothing was recorded there")
    check_format(name, layout)


def session_of(record: Record) -> str | None:
    """Return the session id of a record; None outside of sessions."""
    return record.place.session_id if isinstance(record, CallRecord) else record.session_id


class DeletionScope(NamedTuple):
    """Records to delete: sessions with all their records and single calls, by full id, or everything before a time."""

    sessions: Set[str] = frozenset()
    """Deleted with all their calls, timesteps, events, messages and rewards."""
    calls: Set[str] = frozenset()
    """Deleted with the events, messages and rewards that name them. They may include calls of `sessions`."""
    targets: Set[str] = frozenset()
    """Timesteps and events, deleted with the rewards that name them."""
    user: str | None = None
    """Also deletes calls, events, timesteps, messages and rewards that name this user themselves."""
    older_than_ns: int | None = None
    """Deletes everything before this Unix time; excludes all other fields."""
    erased_ns: int = 0
    """Unix time of the decision. The store remembers the ids and rejects their records from before it."""

    def covers(self, record: Record) -> bool:
        """Return whether a record belongs to the user, a session or a call, is a target, or is a reward of one.

        Ask for the newest version of a record: an earlier one may name another session or user.
        """
        is_named = getattr(record, "call_id", None) in self.calls or session_of(record) in self.sessions
        if isinstance(record, TimestepRecord):
            is_named |= record.timestep_id in self.targets
        elif isinstance(record, EventRecord):
            is_named |= record.event_id in self.targets
        elif isinstance(record, RewardRecord):
            is_named |= record.timestep_id in self.targets or record.event_id in self.targets
        # A session is deleted as a whole, or has other users too and loses the name.
        return is_named or (not isinstance(record, SessionRecord) and self.user in users_of(record))


class CallIds(NamedTuple):
    """The ids of one call."""

    call_id: str
    """The call's id."""
    session_id: str | None
    """The id of its session; None: it is outside of sessions."""


def ids_of(call: CallRecord | CallIds) -> CallIds:
    """Return the ids of a call."""
    return CallIds(call.call_id, call.place.session_id) if isinstance(call, CallRecord) else call


class ProcessActivity(NamedTuple):
    """What one process has written to a store."""

    host: str | None
    """The name of its machine; None if its records do not state it, such as those received from other programs."""
    pid: int | None
    """Its process id."""
    service: str | None
    """The name of its service."""
    calls: int
    """Number of its calls."""
    sessions: int
    """Number of its sessions."""
    newest_ns: int
    """Unix time in nanoseconds at which its newest call ended, or began if it has no end; or that of its sessions."""


class CallAggregates(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls. A value is None, never 0, if no call has it."""

    calls: int
    """Number of calls."""
    errors: int
    """Number of calls with outcome error or timeout; cancelled calls are not errors."""
    cancelled: int = 0
    """Number of calls with outcome cancelled."""
    cut_off: int = 0
    """Number of streamed calls that stopped without a terminal event."""
    cut_by_length: int = 0
    """Number of calls with an answer that reached the token limit."""
    refused: int = 0
    """Number of calls with an answer that the model refused or a filter removed."""
    cached: int = 0
    """Number of calls that a cache answered; the sums have none of their tokens."""
    input_tokens: int | None = None
    """Sum, cached tokens included."""
    output_tokens: int | None = None
    """Sum, reasoning included."""
    cache_read_tokens: int | None = None
    """Sum of tokens read from the prompt cache."""
    reasoning_tokens: int | None = None
    """Sum of output tokens of reasoning."""
    mean_input_tokens: float | None = None
    """Mean over the calls with a known number."""
    mean_output_tokens: float | None = None
    """Mean over the calls with a known number."""
    retries: int | None = None
    """Sum of the SDK's retries."""
    cost_usd: Decimal | None = None
    """Sum in US dollars, exact."""
    calls_without_cost: int = 0
    """Number of calls with unknown cost. A failed call is free if it has no tokens and no answer had begun, so is one
    that a cache answered, unless a request of it may have been billed."""
    may_be_billed: int = 0
    """Number of requests without an answer, or without the usage of theirs, that the provider may have billed."""
    calls_without_usage: int = 0
    """Number of calls with unknown tokens, such as streams without usage and cancelled calls. Calls that failed before
    an answer began do not count, nor do answers without a finish reason, such as moderations."""


class Summary(CallAggregates, frozen=True, kw_only=True):
    """Sums over a group of calls; those without a value are left out of averages."""

    keys: tuple[str | None, ...] = ()
    """Value of each grouping: model, provider, session id, day (UTC, ISO), or a label; None for calls without one."""
    duration_p50_ns: float | None = None
    """Median latency of successful calls; None without such calls or if latencies were not requested."""
    duration_p95_ns: float | None = None
    """95th percentile, as `duration_p50_ns`."""
    first_token_p50_ns: float | None = None
    """Median time to the first token of the successful calls that have one."""
    first_token_p95_ns: float | None = None
    """95th percentile, as `first_token_p50_ns`."""
    first_ns: int | None = None
    """Start of the first call, Unix nanoseconds."""
    last_ns: int | None = None
    """End of the last call to end, or its start if it has no end, Unix nanoseconds."""

    @property
    def key(self) -> str | None:
        """The value of the only grouping, or of the first one."""
        return self.keys[0]


class StepSums(CallAggregates, frozen=True, kw_only=True):
    """Sums over the calls of a timestep; nested timesteps have their own."""

    context_tokens: int | None = None
    """Largest number of input tokens in a single call."""


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
    """Nanoseconds; None while it runs or if unknown."""
    first_token_ns: int | None = None
    """Nanoseconds from the start to the first token; None if unknown and for tools."""
    outcome: str | None = None
    """The outcome of a call; `error` for a tool that failed, else None."""
    retries: int | None = None
    """The SDK's retries of a call."""


class Opening(NamedTuple):
    """How a session begins."""

    words: str | None
    """What is asked, on one line, see `Reader.first_words`; None if it was not recorded."""
    continues: str | None
    """The id of the session whose conversation its first request continues, as the next turn of a chat does.

    None if there is none among those that were asked for, or more than one may be it.
    """


class SessionSummary(CallAggregates, frozen=True, kw_only=True):
    """One session with its counts, and the sums over its calls."""

    session: SessionRecord
    """Its outcome is `interrupted` if its process exited before the session ended, or `unknown`."""
    inferred: bool = False
    """Whether it is a run: the store found it by what its calls continue, and nobody opened it."""
    timesteps: int
    """Number of timesteps."""
    first_error: CallError | None = None
    """Error of the first failed call; None if no call failed."""
    events: int
    """Number of events, messages and rewards. A run that has ended counts once, without its start event."""
    models: list[str]
    """The models of its calls, sorted."""
    call_labels: dict[str, list[str]] = {}
    """By metadata key: the values of its calls, sorted; a call without one has the session's. Only for the keys that
    the reader was asked for."""
    reward: float | None = None
    """The last reward of the session itself, else the sum of its events' rewards (objective `reward`)."""
    scores: dict[str, Score] = {}
    """Score of every other objective, its calls' values included."""
    active_ns: int | None = None
    """Time that any of its calls or tools ran, in nanoseconds, overlaps counted once; None if unknown."""
    last_call_ns: int | None = None
    """When its last call ended, or started if it has no end, in Unix nanoseconds; None if no call has ended."""
    last_ns: int | None = None
    """Unix time in nanoseconds of its last activity."""

    @property
    def outcome(self) -> str | None:
        """The outcome of the session; `in_progress` without one, None if only its calls or events are stored."""
        return self.session.outcome or (IN_PROGRESS if self.session.seen_ns else None)

    @property
    def is_rated(self) -> bool:
        """Whether it counts in rates, means and comparisons: not a run without outcome, success, reward and score."""
        return not self.inferred or not (self.succeeded is None and self.reward is None and not self.scores)

    @property
    def succeeded(self) -> bool | None:
        """Its recorded success, else whether its outcome is `success`; None if neither is known."""
        session = self.session
        if session.success is not None or session.outcome is None:
            return session.success
        return session.outcome == "success"

    def score(self, objective: str = REWARD) -> float | None:
        """Return its reward, or its mean score for another objective; None without one."""
        if objective == REWARD:
            return self.reward
        return self.scores[objective].mean if objective in self.scores else None

    @property
    def duration_ns(self) -> int | None:
        """Its duration, or the time until its last call ended if it is unended; None if unknown."""
        start, end = self.session.start_ns, self.session.end_ns or self.last_call_ns
        return None if start is None or end is None else max(0, end - start)


class History(NamedTuple):
    """The recorded calls that a call continues at the provider, as far back as they are linked."""

    calls: list[CallRecord]
    """Oldest first, with their conversations, without the call itself."""
    missing: str | None = None
    """Id of the response that ends the links, because no recorded call has it."""
    more: bool = False
    """Whether the limit left earlier calls unread."""


def start_of(record: Record) -> int:
    """Return when a call, session or event began, Unix nanoseconds; 0 if unknown."""
    if isinstance(record, CallRecord):
        return record.timing.start_ns
    if isinstance(record, SCOPE_TYPES):
        return record.seen_ns if record.start_ns is None else record.start_ns
    return record.time_ns or 0


def duration_of(entry: Entry) -> int | None:
    """Return the duration in nanoseconds; None for an instant or an entry that is still running."""
    if isinstance(entry, CallRecord):
        return entry.timing.duration_ns
    return entry.duration_ns if isinstance(entry, EventRecord) else None


def step_of(entry: Entry) -> str | None:
    """Return the id of the entry's timestep; None if it belongs to the session directly."""
    return entry.place.timestep_id if isinstance(entry, CallRecord) else entry.timestep_id
