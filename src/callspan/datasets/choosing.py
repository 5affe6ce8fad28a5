"""Choosing: which sessions and calls go into a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from callspan.datasets.statistics import Statistics
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord, RewardRecord
from callspan.stores.base import CallFilter, Event, Reader, SessionSummary

ACHIEVEMENT: Final = "achievement"
"""Objective of rewards whose label names an achievement; environment steps state theirs in `after.achievements`."""
_CALL_WORDS: Final = ("models", "providers", "since_ns", "until_ns", "session_ids", "limit", "text")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to export; every field narrows, None and empty ask nothing. What a session does not know fails a bound."""

    session_ids: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    models: tuple[str, ...] = ()
    """Calls that asked for, or were answered by, one of these."""
    providers: tuple[str, ...] = ()
    text: str | None = None
    """Sessions in which this was said somewhere, and calls outside sessions in which it was; capitals do not matter."""
    min_reward: float | None = None
    max_reward: float | None = None
    max_cost: Decimal | None = None
    """US dollars of the whole session."""
    max_tokens: int | None = None
    """Input and output of the whole session."""
    success: bool | None = None
    tags: tuple[tuple[str, str], ...] = ()
    """Pairs of metadata of the session; values are compared as text."""
    achievements: tuple[str, ...] = ()
    """All of these."""
    without_achievements: tuple[str, ...] = ()
    min_achievements: int | None = None
    limit: int | None = None
    """Rows at most."""

    @property
    def of_sessions(self) -> bool:
        """Whether something is asked that only a session can answer."""
        defaults = Choice()
        names = (name for name in self.__struct_fields__ if name not in _CALL_WORDS)
        return any(getattr(self, name) != getattr(defaults, name) for name in names)


class Episode(NamedTuple):
    """One session that was chosen, with its calls in order."""

    summary: SessionSummary
    calls: list[CallRecord]
    events: list[Event]

    @property
    def id(self) -> str:
        """The session's id."""
        return self.summary.session.session_id


def episodes(reader: Reader, choice: Choice, statistics: Statistics) -> Iterator[Episode]:
    """Yield the chosen sessions, oldest first; why others are left out is counted."""
    found = list(_sessions(reader, choice, statistics))
    statistics.sessions_found = len(found)
    said_in = _said_in(reader, choice)
    for summary in reversed(found):
        statistics.sessions += 1
        unsaid = said_in is not None and summary.session.session_id not in said_in
        reason = "the text was not said" if unsaid else _unfit(summary, choice)
        events = [] if reason else list(reader.events(summary.session.session_id))
        reason = reason or _lacking(events, choice)
        if reason:
            statistics.left_out[f"session: {reason}"] += 1
            continue
        every = reader.calls(CallFilter(session_id=summary.session.session_id, newest_first=False))
        calls = list(chosen_calls(every, choice, statistics))
        if not calls:
            statistics.left_out["session: no call that fits"] += 1
            continue
        statistics.sessions_kept += 1
        if summary.reward is not None:
            statistics.rewards.append(summary.reward)
        yield Episode(summary, calls, events)


def loose_calls(reader: Reader, choice: Choice, statistics: Statistics) -> Iterator[CallRecord]:
    """Yield the chosen calls that belong to no session, oldest first; none where a session is asked for."""
    if choice.of_sessions or choice.session_ids:
        return
    which = CallFilter(since_ns=choice.since_ns, until_ns=choice.until_ns, text=choice.text, newest_first=False)
    found = (call for call in reader.calls(which) if call.place.session_id is None)
    yield from chosen_calls(found, choice, statistics)


def chosen_calls(calls: Iterator[CallRecord], choice: Choice, statistics: Statistics) -> Iterator[CallRecord]:
    """Yield the calls that were answered and fit; why others are left out is counted."""
    for call in calls:
        statistics.calls += 1
        reason = _unfit_call(call, choice)
        if reason:
            statistics.left_out[f"call: {reason}"] += 1
        else:
            yield call


def achievements(events: list[Event]) -> set[str]:
    """Return the names of all that was achieved in a session, by its environment or by rewards."""
    found: set[str] = set()
    for item in events:
        if isinstance(item, RewardRecord) and item.objective == ACHIEVEMENT and item.label:
            found.add(item.label)
        if isinstance(item, EventRecord) and item.event_type == "environment" and isinstance(item.data, Mapping):
            after = item.data.get("after")
            stated = after.get("achievements") if isinstance(after, Mapping) else None
            found.update(_names(stated))
    return found


def _names(stated: object) -> set[str]:
    """Achievements as a mapping of names to whether or how often, or as a list of names."""
    if isinstance(stated, Mapping):
        return {str(name) for name, reached in stated.items() if reached}
    return {str(name) for name in stated} if isinstance(stated, list) else set()


def _sessions(reader: Reader, choice: Choice, statistics: Statistics) -> Iterator[SessionSummary]:
    if not choice.session_ids:
        yield from reader.sessions(since_ns=choice.since_ns)
        return
    for session_id in reversed(choice.session_ids):
        found = reader.session(session_id)
        if found is None:
            statistics.left_out[f"session: {session_id} is not in the store, or several begin so"] += 1
        else:
            yield found


def _said_in(reader: Reader, choice: Choice) -> frozenset[str | None] | None:
    """Ids of the sessions in which the text was said; None where no text is asked for."""
    if choice.text is None:
        return None
    found = reader.summary("session", CallFilter(text=choice.text), latencies=False)
    return frozenset(summary.key for summary in found)


def _unfit(summary: SessionSummary, choice: Choice) -> str | None:
    """Why a session does not fit; None where it does."""
    session, reward = summary.session, summary.reward
    tokens = None if summary.input_tokens is None else summary.input_tokens + (summary.output_tokens or 0)
    start, until = session.start_ns, choice.until_ns
    checks = (
        ("began too late", until is not None and (start is None or start >= until)),
        ("reward too low or unknown", choice.min_reward is not None and (reward is None or reward < choice.min_reward)),
        (
            "reward too high or unknown",
            choice.max_reward is not None and (reward is None or reward > choice.max_reward),
        ),
        (
            "too dear, or cost unknown",
            choice.max_cost is not None and (summary.cost_usd is None or summary.cost_usd > choice.max_cost),
        ),
        (
            "too many tokens, or unknown",
            choice.max_tokens is not None and (tokens is None or tokens > choice.max_tokens),
        ),
        ("success is not as asked", choice.success is not None and _succeeded(summary) is not choice.success),
        ("tags", any(str(session.metadata.get(name)) != value for name, value in choice.tags)),
    )
    return next((reason for reason, failed in checks if failed), None)


def _succeeded(summary: SessionSummary) -> bool | None:
    """What the session said of itself, else its outcome; None where neither is known."""
    session = summary.session
    if session.success is not None or session.outcome is None:
        return session.success
    return session.outcome == "success"


def _lacking(events: list[Event], choice: Choice) -> str | None:
    if not (choice.achievements or choice.without_achievements or choice.min_achievements):
        return None
    found = achievements(events)
    fits = (
        found.issuperset(choice.achievements)
        and found.isdisjoint(choice.without_achievements)
        and len(found) >= (choice.min_achievements or 0)
    )
    return None if fits else "achievements"


def _unfit_call(call: CallRecord, choice: Choice) -> str | None:
    answered = call.response.model if call.response else None
    if call.outcome != "success":
        return f"outcome {call.outcome}"
    if call.operation in ("embeddings", "decisions"):
        return call.operation
    if call.conversation is None or not call.conversation.output:
        return "content was not kept"
    if choice.models and not {call.request.model, answered} & set(choice.models):
        return "model"
    if choice.providers and call.provider not in choice.providers:
        return "provider"
    return None
