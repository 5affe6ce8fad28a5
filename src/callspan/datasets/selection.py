"""Selection: selects the sessions and calls of a dataset, and counts the statistics of an export."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from statistics import fmean, median
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from callspan.providers.base import MEDIA_APIS
from callspan.records import REWARD, CallRecord, EventRecord, RewardRecord
from callspan.stores import CallFilter, Event, History, Reader, SessionFilter, SessionSummary, call_scores, known_sum

_T = TypeVar("_T")
_Number = TypeVar("_Number", float, Decimal)
MAX_CALLS_IN_MEMORY: Final = 500
"""The calls of longer sessions are read again for each iteration."""
ACHIEVEMENT: Final = "achievement"
"""Objective of rewards whose label is an achievement; environment steps have achievements in `after.achievements`."""
_NOT_GENERATING: Final = frozenset({"embeddings", "decisions", "moderation", "retrieval", "evaluation"})
_CALL_FIELDS: Final = (
    *("models", "providers", "since_ns", "until_ns", "session_ids", "without_cut_off", "limit", "text", "user", "meta"),
    *("objective", "min_score"),
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of row formats. A format ignores the options of others."""

    reasoning: bool = False
    """Include reasoning as `reasoning_content`; OpenAI's trainer rejects it, open ones accept it."""
    metadata: bool = False
    """Add `metadata` with session, call and reward; OpenAI's trainer rejects it."""
    pair_by: str = "task_id"
    """Preference pairs: `task_id`, `group_id`, `name`, or a field of the session's metadata."""
    margin: float = 0.0
    """Preference pairs: minimum difference of rewards, always more than 0."""
    pair_format: Literal["openai", "trl"] = "openai"
    """Preference pairs: `input`, `preferred_output`, `non_preferred_output`; or `prompt`, `chosen`, `rejected`."""
    agent_name: str | None = None
    """Trajectories: name of the agent, by default the session's name."""
    agent_version: str = "unknown"
    """Trajectories: version of the agent, required by the format."""


@dataclass
class Statistics:
    """Counts of one export, updated while it runs."""

    sessions_found: int = 0
    """Sessions to check."""
    sessions: int = 0
    """Checked sessions."""
    sessions_kept: int = 0
    calls: int = 0
    """Checked calls."""
    rows: int = 0
    messages: int = 0
    trained: int = 0
    """Assistant messages with weight 1."""
    input_tokens: int | None = None
    """None if unknown, or not counted by the format."""
    output_tokens: int | None = None
    rewards: list[float] = field(default_factory=list)
    cut_off: int = 0
    """Number of answers to train on that were cut off, by the token limit or with their stream."""
    stopped_at_limit: bool = False
    """Whether the limit of rows was reached."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of excluded sessions, calls, rows or pairs, by reason."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of parts that the format cannot represent, by kind."""
    models: Counter[str] | None = None
    """Number of calls by model; None if not counted by the format."""

    def count_call(self, call: CallRecord) -> None:
        """Count the model and the tokens of a call in a row."""
        self.models = Counter() if self.models is None else self.models
        self.models[call.request.model or "unknown"] += 1
        if call.usage is not None:
            self.input_tokens = known_sum((self.input_tokens, call.usage.input_tokens))
            self.output_tokens = known_sum((self.output_tokens, call.usage.output_tokens))

    def as_json(self) -> dict[str, object]:
        """Return the counts as plain JSON. `reward` is None without rewards."""
        return {
            "sessions": self.sessions,
            "sessions_kept": self.sessions_kept,
            "calls": self.calls,
            "rows": self.rows,
            "messages": self.messages,
            "trained_messages": self.trained,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "reward": _spread(self.rewards),
            "models": None if self.models is None else dict(self.models.most_common()),
            "cut_off_answers": self.cut_off,
            "stopped_at_limit": self.stopped_at_limit,
            "left_out": dict(self.left_out.most_common()),
            "dropped": dict((+self.dropped).most_common()),
        }


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "median": median(values), "mean": fmean(values), "max": max(values)}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions for an export. None and empty are no condition; an unknown value never satisfies a bound."""

    session_ids: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    models: tuple[str, ...] = ()
    """Calls whose requested or responding model is one of these."""
    providers: tuple[str, ...] = ()
    text: str | None = None
    """Sessions with this text in any call, and calls outside sessions with it; case-insensitive."""
    user: str | None = None
    """Sessions of this user, and the user's calls outside sessions."""
    name: str | None = None
    group: str | None = None
    task: str | None = None
    experiment: str | None = None
    meta: tuple[tuple[str, str], ...] = ()
    """Metadata of sessions, and of calls outside sessions; includes `extra`, and every item of a list."""
    min_reward: float | None = None
    max_reward: float | None = None
    objective: str = REWARD
    """The objective of `min_score` and of the ranking of sessions: the reward, or the mean of another objective."""
    min_score: float | None = None
    """Sessions, and calls outside sessions, with at least this score of the objective."""
    max_cost: Decimal | None = None
    """Maximum cost of a session in US dollars."""
    max_tokens: int | None = None
    """Maximum input and output tokens of a session."""
    success: bool | None = None
    achievements: tuple[str, ...] = ()
    without_achievements: tuple[str, ...] = ()
    min_achievements: int | None = None
    without_cut_off: bool = False
    """Exclude answers that were cut off by the token limit or with their stream."""
    limit: int | None = None

    @property
    def of_sessions(self) -> bool:
        """Whether a condition applies only to sessions."""
        defaults = Selection()
        names = (name for name in self.__struct_fields__ if name not in _CALL_FIELDS)
        return any(getattr(self, name) != getattr(defaults, name) for name in names)


def no_history(_: CallRecord) -> History:
    """Return an empty history."""
    return History([])


class Rereadable(Iterable[_T]):
    """The selected records of a long session, read again by each iteration; only the first updates the statistics."""

    def __init__(self, read: Callable[[Statistics], Iterator[_T]], statistics: Statistics) -> None:
        """`read` updates the statistics passed to it."""
        self._read, self._statistics = read, statistics

    def __iter__(self) -> Iterator[_T]:
        """Read the records."""
        statistics, self._statistics = self._statistics, Statistics()
        return self._read(statistics)

    def has_any(self) -> bool:
        """Return whether there is any record; if not, count the excluded records."""
        found = next(self._read(Statistics()), None) is not None
        if not found:
            deque(self, maxlen=0)
        return found


class Episode(NamedTuple):
    """One selected session."""

    summary: SessionSummary
    calls: Iterable[CallRecord]
    """In order; a list, or for a long session read again by each iteration."""
    events: Iterable[Event]
    """In order, read again by each iteration."""
    history: Callable[[CallRecord], History] = no_history
    """Returns the recorded calls that a call continues, see `Reader.history`."""
    step_positions: Callable[[], Mapping[str, int]] = dict
    """Returns the position of each timestep, by id, see `Reader.step_positions`."""
    objective: str = REWARD
    """The objective of the ranking."""

    @property
    def score(self) -> float | None:
        """The reward, or the mean of the objective."""
        return self.summary.score(self.objective)

    @property
    def scores(self) -> dict[str, float]:
        """The mean of each objective other than the reward."""
        return {objective: score.mean for objective, score in self.summary.scores.items()}

    @property
    def id(self) -> str:
        """The session's id."""
        return self.summary.session.session_id


def episodes(reader: Reader, selection: Selection, statistics: Statistics) -> Iterator[Episode]:
    """Yield the selected sessions, oldest first; count the others by reason."""
    found = list(_sessions(reader, selection, statistics))
    statistics.sessions_found = len(found)
    with_text = _sessions_with_text(reader, selection)
    for summary in reversed(found):
        statistics.sessions += 1
        lacks_text = with_text is not None and summary.session.session_id not in with_text
        reason = "without the text" if lacks_text else _unfit(summary, selection)
        session_id = summary.session.session_id
        events = Rereadable(partial(_events, reader, session_id), statistics)
        reason = reason or _unfit_achievements(events, selection)
        if reason:
            statistics.left_out[f"session: {reason}"] += 1
            continue
        which = CallFilter(session_id=session_id, newest_first=False)
        calls = list_or_rereadable(partial(_calls, reader, which, selection), summary.calls, statistics)
        if not (calls.has_any() if isinstance(calls, Rereadable) else calls):
            statistics.left_out["session: no call that fits"] += 1
            continue
        statistics.sessions_kept += 1
        positions = partial(reader.step_positions, [session_id])
        episode = Episode(summary, calls, events, reader.history, positions, selection.objective)
        if episode.score is not None:
            statistics.rewards.append(episode.score)
        yield episode


def list_or_rereadable(
    read: Callable[[Statistics], Iterator[CallRecord]], number: int, statistics: Statistics
) -> Iterable[CallRecord]:
    """Return the calls of a session as a list, or as `Rereadable` for a long session."""
    return list(read(statistics)) if number <= MAX_CALLS_IN_MEMORY else Rereadable(read, statistics)


def calls_outside_sessions(
    reader: Reader, selection: Selection, statistics: Statistics, *, wanted: bool
) -> Iterable[CallRecord]:
    """Return the selected calls outside sessions, oldest first; none if single sessions are selected.

    If they are not `wanted`, or cannot match the conditions, they are only counted.
    """
    if selection.session_ids:
        return []
    which = CallFilter(
        in_session=False, since_ns=selection.since_ns, until_ns=selection.until_ns, text=selection.text,
        user=selection.user, metadata=selection.meta, newest_first=False,
    )  # fmt: skip
    number = reader.count_calls(which)
    if not wanted or selection.of_sessions:
        statistics.left_out.update({"call: outside sessions": number} if number else {})
        return []
    minimum, objective = selection.min_score, selection.objective
    chosen: set[str] | None = None
    if minimum is not None:
        given = call_scores(reader, {objective})
        chosen = {call_id for call_id, scores in given.items() if scores[objective] >= minimum}
    return list_or_rereadable(partial(_calls, reader, which, selection, chosen=chosen), number, statistics)


def _calls(
    reader: Reader,
    which: CallFilter,
    selection: Selection,
    statistics: Statistics,
    *,
    chosen: Collection[str] | None = None,
) -> Iterator[CallRecord]:
    """Yield the selected calls; `chosen` are the ids of those with a sufficient score, by default all."""
    for call in selected_calls(reader.calls(which), selection, statistics):
        if chosen is None or call.call_id in chosen:
            yield call
        else:
            statistics.left_out["call: score too low or unknown"] += 1


def _events(reader: Reader, session_id: str, _: Statistics) -> Iterator[Event]:
    yield from reader.events(session_id)


def selected_calls(calls: Iterator[CallRecord], selection: Selection, statistics: Statistics) -> Iterator[CallRecord]:
    """Yield the matching successful calls; count the others by reason."""
    for call in calls:
        statistics.calls += 1
        reason = _unfit_call(call, selection)
        if reason:
            statistics.left_out[f"call: {reason}"] += 1
        else:
            yield call


def achievements(events: Iterable[Event]) -> set[str]:
    """Return the achievements of a session, from its environment steps and rewards."""
    found: set[str] = set()
    for item in events:
        if isinstance(item, RewardRecord) and item.objective == ACHIEVEMENT and item.label:
            found.add(item.label)
        if isinstance(item, EventRecord) and item.event_type == "environment" and isinstance(item.data, Mapping):
            after = item.data.get("after")
            value = after.get("achievements") if isinstance(after, Mapping) else None
            found.update(_names(value))
    return found


def _names(value: object) -> set[str]:
    """Return achievements given as a mapping to flags or counts, or as a list."""
    if isinstance(value, Mapping):
        return {str(name) for name, reached in value.items() if reached}
    return {str(name) for name in value} if isinstance(value, list) else set()


def _sessions(reader: Reader, selection: Selection, statistics: Statistics) -> Iterator[SessionSummary]:
    which = SessionFilter(
        user=selection.user, name=selection.name, group=selection.group, task=selection.task,
        experiment=selection.experiment, metadata=selection.meta,
    )  # fmt: skip
    if not selection.session_ids:
        yield from reader.sessions(since_ns=selection.since_ns, which=which)
        return
    fitting = None
    if which != SessionFilter():
        fitting = {summary.session.session_id for summary in reader.sessions(which=which)}
    for session_id in reversed(selection.session_ids):
        found = reader.session(session_id)
        if found is None:
            statistics.left_out[f"session: {session_id} is not in the store, or several match"] += 1
        elif fitting is not None and found.session.session_id not in fitting:
            statistics.left_out["session: of another user, name, group, experiment, task or metadata"] += 1
        else:
            yield found


def _sessions_with_text(reader: Reader, selection: Selection) -> frozenset[str | None] | None:
    """Return the ids of the sessions with the text; None without a condition on text."""
    if selection.text is None:
        return None
    found = reader.summary("session", CallFilter(text=selection.text), latencies=False)
    return frozenset(summary.key for summary in found)


def _unfit(summary: SessionSummary, selection: Selection) -> str | None:
    """Return the reason why a session does not match; None if it does."""
    session, reward = summary.session, summary.reward
    tokens = None if summary.input_tokens is None else summary.input_tokens + (summary.output_tokens or 0)
    last = None if selection.until_ns is None else selection.until_ns - 1
    checks = (
        ("began too late", _is_above(session.start_ns, last)),
        ("reward too low or unknown", _is_below(reward, selection.min_reward)),
        ("reward too high or unknown", _is_above(reward, selection.max_reward)),
        ("score too low or unknown", _is_below(summary.score(selection.objective), selection.min_score)),
        ("cost too high or unknown", _is_above(summary.cost_usd, selection.max_cost)),
        ("too many tokens or unknown", _is_above(tokens, selection.max_tokens)),
        ("success", selection.success is not None and summary.succeeded is not selection.success),
    )
    return next((reason for reason, failed in checks if failed), None)


def _is_below(value: _Number | None, minimum: _Number | None) -> bool:
    return minimum is not None and (value is None or value < minimum)


def _is_above(value: _Number | None, maximum: _Number | None) -> bool:
    return maximum is not None and (value is None or value > maximum)


def _unfit_achievements(events: Iterable[Event], selection: Selection) -> str | None:
    if not (selection.achievements or selection.without_achievements or selection.min_achievements):
        return None
    found = achievements(events)
    fits = (
        found.issuperset(selection.achievements)
        and found.isdisjoint(selection.without_achievements)
        and len(found) >= (selection.min_achievements or 0)
    )
    return None if fits else "achievements"


def _unfit_call(call: CallRecord, selection: Selection) -> str | None:
    responding = call.response.model if call.response else None
    if call.outcome != "success":
        return f"outcome {call.outcome}"
    if call.operation in _NOT_GENERATING:
        return call.operation
    if call.api in MEDIA_APIS:
        return call.api
    if call.conversation is None or not call.conversation.output:
        return "content was not kept"
    if selection.models and not {call.request.model, responding} & set(selection.models):
        return "model"
    if selection.providers and call.provider not in selection.providers:
        return "provider"
    return "cut off" if selection.without_cut_off and is_cut_off(call) else None


def is_cut_off(call: CallRecord) -> bool:
    """Return whether the answer was cut off by the token limit or with its stream."""
    return call.is_cut_by_length or call.is_cut_off
