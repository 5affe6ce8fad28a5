"""Score filter: a store limited to the sessions and calls with minimum scores or a label, or sorted by a score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import chain, islice
from math import inf
from typing import Any, Final, TypeAlias

import msgspec

from callspan.record.call import CallRecord
from callspan.record.reward_sums import REWARD
from callspan.stores.base import CallFilter, SessionFilter, SessionSummary, Summary, Times
from callspan.stores.reader import Reader
from callspan.stores.scores import Labels, call_scores, labels_of
from callspan.stores.scratch import scratch_reader

ScoresOf: TypeAlias = Callable[[CallRecord], Mapping[str, float]]
"""Returns the scores of a call by their objectives."""
_EVERY: Final = CallFilter()
_ANY: Final = SessionFilter()


class Scoring(msgspec.Struct, frozen=True):
    """The options about scores; None applies no filter. What has no score matches no minimum."""

    objectives: tuple[str, ...] = ()
    """Those with a column, of which `min_score` is; none: the reward."""
    min_score: float | None = None
    min_reward: float | None = None
    label: str | None = None
    """Of a reward or feedback, with any of the objectives if some are named."""
    sorts: bool = False
    """Lowest score of the first objective first."""

    @property
    def judged(self) -> tuple[str, ...]:
        """The objectives that are filtered or sorted by."""
        return self.objectives or (REWARD,)

    @property
    def chooses(self) -> bool:
        """Whether some sessions are left out."""
        return self.min_score is not None or self.min_reward is not None or self.label is not None


NO_SCORING: Final = Scoring()


class ScoredReader:
    """A `Reader` of any store whose lists and sums have only sessions with minimum scores, and their calls.

    A call has the scores that it was given itself, else those of its session.
    """

    def __init__(self, reader: Reader, scoring: Scoring) -> None:
        self._reader = reader
        self._scoring = scoring

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any method of a reader
        """Return the store's own reader of a single record, regardless of its scores."""
        return getattr(self._reader, name)

    @cached_property
    def _of_sessions(self) -> dict[str, dict[str, float]]:
        names = {*self._scoring.judged, REWARD}
        return {
            summary.session.session_id: {
                objective: value for objective in names if (value := summary.score(objective)) is not None
            }
            for summary in self._reader.sessions()
        }

    @cached_property
    def _of_calls(self) -> dict[str, dict[str, float]]:
        return call_scores(self._reader, self._scoring.judged)

    @cached_property
    def _labels(self) -> Labels:
        return labels_of(self._reader, self._scoring.objectives)

    def labels_of(self, call: CallRecord) -> Mapping[str, Sequence[str]]:
        """Return the labels of a call by their objectives, else those of its session."""
        return self._labels.calls.get(call.call_id) or self._labels.sessions.get(call.place.session_id or "", {})

    def _has_label(self, given: Mapping[str, Sequence[str]]) -> bool:
        return self._scoring.label is None or self._scoring.label in chain.from_iterable(given.values())

    def scores_of(self, call: CallRecord) -> dict[str, float]:
        """Return the scores of a call by their objectives."""
        return self._of_sessions.get(call.place.session_id or "", {}) | self._of_calls.get(call.call_id, {})

    def _fits(self, call: CallRecord) -> bool:
        earned = self._of_sessions.get(call.place.session_id or "", {}).get(REWARD)
        labelled = self._scoring.label is None or self._has_label(self.labels_of(call))
        return labelled and self._has_reward(earned) and self._is_enough(self.scores_of(call))

    def _has_reward(self, earned: float | None) -> bool:
        least = self._scoring.min_reward
        return least is None or (earned is not None and earned >= least)

    def _is_enough(self, scores: dict[str, float]) -> bool:
        least = self._scoring.min_score
        return least is None or all(name in scores and scores[name] >= least for name in self._scoring.judged)

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield the calls with enough score."""
        end = None if which.limit is None else which.offset + which.limit
        every = msgspec.structs.replace(which, limit=None, offset=0)
        if not self._scoring.sorts:
            yield from islice(filter(self._fits, self._reader.calls(every)), which.offset, end)
            return
        first, sign = self._scoring.judged[0], 1 if which.newest_first else -1
        slim = filter(self._fits, self._reader.calls(msgspec.structs.replace(every, content="none")))
        ranked = sorted(
            (sign * self.scores_of(call).get(first, sign * inf), -sign * call.timing.start_ns, call.call_id)
            for call in slim
        )
        for _, _, call_id in ranked[which.offset : end]:
            call = self._reader.call(call_id)
            if call is not None:  # else deleted meanwhile
                yield call

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        slim = msgspec.structs.replace(which, limit=None, offset=0, content="none")
        return sum(map(self._fits, self._reader.calls(slim)))

    def sessions(
        self,
        *,
        since_ns: int | None = None,
        limit: int | None = None,
        which: SessionFilter = _ANY,
        after: Sequence[int | str] | None = None,
    ) -> Iterator[SessionSummary]:
        """Yield the sessions with enough score, newest first unless sorted."""
        every = self._reader.sessions(since_ns=since_ns, which=which, after=after)
        found: Iterator[SessionSummary] = filter(self._has, every)
        if self._scoring.sorts:
            first = self._scoring.judged[0]
            # The newest of the same score is first as it is.
            found = iter(sorted(found, key=lambda one: _or_last(one.score(first))))
        yield from islice(found, limit)

    def _has(self, summary: SessionSummary) -> bool:
        scores = {name: value for name in self._scoring.judged if (value := summary.score(name)) is not None}
        if not (self._has_reward(summary.reward) and self._is_enough(scores)):
            return False
        return self._scoring.label is None or self._has_label(self._labels.within.get(summary.session.session_id, {}))

    def summary(
        self, by: str | Sequence[str], which: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over the calls with enough score, largest number of calls first."""
        if not self._scoring.chooses:
            yield from self._reader.summary(by, which, latencies=latencies)
            return
        with self._calls_alone(which) as reader:
            yield from reader.summary(by, latencies=latencies)

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls with enough score that succeeded."""
        with self._calls_alone(which) as reader:
            yield from reader.times()

    def _calls_alone(self, which: CallFilter) -> AbstractContextManager[Reader]:
        """Return a reader of these calls, without bodies, and the sessions that may have their labels."""
        slim = msgspec.structs.replace(which, content="none", limit=None, offset=0)
        calls = filter(self._fits, self._reader.calls(slim))
        return scratch_reader(chain(calls, (one.session for one in self._reader.sessions())))


def _or_last(score: float | None) -> float:
    return inf if score is None else score
