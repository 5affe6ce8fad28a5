"""Selection: reads the sessions and calls of a dataset, and counts the statistics of an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import islice
from typing import Final, Literal, NamedTuple

import msgspec

from callspan.datasets.chat_messages import choices_of
from callspan.providers.base import MEDIA_APIS, NOT_GENERATING
from callspan.records import REWARD, CallRecord, Conversation, SessionRecord, UnknownPart
from callspan.stores import SCORE_FIELDS, CallFilter, Event, Reader, SessionSummary, conditions_on_calls

_NO_SESSION: Final = SessionSummary(
    session=SessionRecord(session_id="", seen_ns=0), timesteps=0, calls=0, errors=0, events=0, models=[]
)
_OF_CALLS: Final = (*SCORE_FIELDS, "ids", "metadata", "model", "provider")
"""The conditions of a filter that exclude calls of a selected session."""
_TIMES: Final = ("since_ns", "until_ns")
_AT_ONCE: Final = 500
"""Sessions selected together by their ids."""
Outside = Literal["one", "all", "none"]
"""Calls outside sessions: each as a separate session, all as one session, or excluded."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of row formats. A format ignores the options of others."""

    reasoning: bool = False
    """Include reasoning as `reasoning_content`; OpenAI's trainer rejects it, open ones accept it."""
    metadata: bool = False
    """Add `metadata` with the ids of session, call and task, reward and model; OpenAI's trainer rejects it."""
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
    objective: str = REWARD
    """Preference pairs, rollouts: what ranks sessions and timesteps: the reward, or the mean for the given
    objective."""
    without_cut_off: bool = False
    """Exclude answers that were cut off by the token limit or with their stream."""
    limit: int | None = None
    """Maximum number of rows."""
    by: Literal["day"] | None = None
    """`parquet`: `day` writes a directory with files of calls and of messages for each day (UTC)."""


class Statistics(msgspec.Struct, kw_only=True):
    """Counts of one export, updated while it runs; a plain structure of JSON."""

    sessions_found: int = 0
    """Sessions to check."""
    sessions: int = 0
    """Checked sessions."""
    sessions_kept: int = 0
    calls: int = 0
    """Checked calls."""
    rows: int = 0
    messages: int = 0
    trained_messages: int = 0
    """Assistant messages with weight 1."""
    cut_off_answers: int = 0
    """Number of answers to train on that were cut off, by the token limit or with their stream."""
    stopped_at_limit: bool = False
    """Whether the limit of rows was reached."""
    left_out: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of excluded sessions, calls, rows or pairs, by reason."""
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of parts that the format cannot represent, by kind."""


class Episode(NamedTuple):
    """One selected session, or calls outside sessions."""

    summary: SessionSummary
    calls: Callable[[], Iterable[CallRecord]]
    """Reads the calls in order, also calls that are not selected, because selected ones may continue them."""
    reader: Reader
    selection: CallFilter
    of_calls: Sequence[str] = _OF_CALLS
    """The conditions of the selection that exclude calls of the session."""

    @property
    def scores(self) -> dict[str, float]:
        """The mean of each objective other than the reward."""
        return {objective: score.mean for objective, score in self.summary.scores.items()}

    @property
    def id(self) -> str:
        """The session's id; empty outside sessions."""
        return self.summary.session.session_id

    def events(self) -> Iterator[Event]:
        """Read the events of the session, in order."""
        return self.reader.events(self.id)

    def step_positions(self) -> Mapping[str, int]:
        """Return the position of each timestep, by id."""
        return self.reader.step_positions([self.id])


def episodes(
    reader: Reader, selection: CallFilter, outside: Outside, statistics: Statistics, *, by_calls: bool = False
) -> Iterator[Episode]:
    """Yield the selected sessions in their order, then the selected calls outside sessions.

    `by_calls`: the times of the selection are those of calls, whenever their session began.
    """
    of_calls = (*_OF_CALLS, *_TIMES) if by_calls else _OF_CALLS
    summaries = _sessions_with_calls(reader, selection) if by_calls else _selected_sessions(reader, selection)
    statistics.sessions_found = len(summaries)
    for summary in summaries:
        statistics.sessions += 1
        session_filter = CallFilter(session_id=summary.session.session_id, newest_first=False)
        yield Episode(summary, partial(reader.calls, session_filter), reader, selection, of_calls)
    selection = msgspec.structs.replace(selection, in_session=False)
    if outside == "none":
        number = reader.count_calls(selection)
        statistics.left_out.update({"call: outside sessions": number} if number else {})
        return
    if outside == "all":
        yield Episode(_NO_SESSION, partial(reader.calls, selection), reader, selection)
        return
    for call in reader.calls(selection):
        yield Episode(_NO_SESSION, partial(iter, [call]), reader, selection)


def _selected_sessions(reader: Reader, selection: CallFilter) -> list[SessionSummary]:
    """Return the selected sessions in their order, then sessions that have the selected metadata only in calls."""
    summaries = list(reader.sessions(selection))
    if selection.metadata:
        session_ids = {summary.session.session_id for summary in summaries}
        labels = {"metadata": selection.metadata, "ids": selection.ids, "in_session": True}
        of_calls = msgspec.structs.replace(conditions_on_calls(selection) or CallFilter(), **labels)
        others = iter(sorted({call.session_id for call in reader.ids(of_calls) if call.session_id} - session_ids))
        while some := tuple(islice(others, _AT_ONCE)):
            summaries += reader.sessions(msgspec.structs.replace(selection, metadata=(), ids=some))
    return summaries


def _sessions_with_calls(reader: Reader, selection: CallFilter) -> list[SessionSummary]:
    """Return the selected sessions with calls at the times of the selection."""
    times = {name: getattr(selection, name) for name in _TIMES}
    whenever = msgspec.structs.replace(selection, **dict.fromkeys(_TIMES))
    if whenever == selection or selection.ids:
        return _selected_sessions(reader, whenever)
    calls = reader.ids(CallFilter(**times, in_session=True))
    session_ids = iter(sorted({call.session_id for call in calls if call.session_id}))
    summaries: list[SessionSummary] = []
    while some := tuple(islice(session_ids, _AT_ONCE)):
        summaries += _selected_sessions(reader, msgspec.structs.replace(whenever, ids=some))
    return summaries


def checked_calls(episode: Episode, options: Options, statistics: Statistics) -> Iterator[tuple[CallRecord, bool]]:
    """Yield the calls of a session and whether each is exported; count the selected others by reason."""
    reasons: set[str | None] = set()
    selected_ids = _selected_ids(episode)
    for call in episode.calls():
        is_selected = selected_ids is None or call.call_id in selected_ids
        reason = _unfit(call, options)
        if is_selected:
            statistics.calls += 1
            statistics.left_out.update([f"call: {reason}"] if reason else [])
            statistics.sessions_kept += bool(episode.id) and reason is None and None not in reasons
            reasons.add(reason)
        yield call, is_selected and reason is None
    if episode.id and None not in reasons:
        statistics.left_out["session: no call that fits"] += 1


def _selected_ids(episode: Episode) -> Set[str] | None:
    """Return the ids of the calls of a session that are selected themselves; None for all of them.

    These are conditions on ids, metadata, models, scores and labels; others select whole sessions.
    """
    conditions = {name: getattr(episode.selection, name) for name in episode.of_calls}
    if not episode.id or CallFilter(**conditions) == CallFilter(objectives=episode.selection.objectives):
        return None
    return {ids.call_id for ids in episode.reader.ids(CallFilter(**conditions, session_id=episode.id))}


def _unfit(call: CallRecord, options: Options) -> str | None:
    """Return the reason why a call is not exported; None if it is."""
    if call.outcome != "success":
        return f"outcome {call.outcome}"
    if call.operation in NOT_GENERATING:
        return call.operation
    if call.api in MEDIA_APIS:
        return call.api
    if call.conversation is None or not call.conversation.output:
        is_kept = call.response is not None and bytes(call.response.body)
        return "an answer without messages" if is_kept else "content was not kept"
    if call.operation == "text_completion" and len(call.conversation.input) > 1:
        return "several prompts"
    if call.response is not None and call.response.compacted and not _has_answer(call.conversation):
        return "compaction"
    return "cut off" if options.without_cut_off and is_cut_off(call) else None


def _has_answer(conversation: Conversation) -> bool:
    """Return whether the output has more than a compaction."""
    parts = (part for message in choices_of(conversation) for part in message.parts)
    return any(not isinstance(part, UnknownPart) for part in parts)


def is_cut_off(call: CallRecord) -> bool:
    """Return whether the answer was cut off by the token limit or with its stream."""
    return call.is_cut_by_length or call.is_cut_off
