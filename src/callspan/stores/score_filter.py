"""Score filter: a store limited to the sessions and calls with minimum scores or a label, or sorted by a score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain, islice
from math import inf
from typing import Any, Final, cast

import msgspec

from callspan.record.call import CallRecord
from callspan.record.reward_sums import REWARD
from callspan.stores.base import CallIds, SessionSummary, Summary, Times
from callspan.stores.filters import CallFilter, SessionFilter
from callspan.stores.reader import Choose, Reader
from callspan.stores.scores import Labels, call_scores, labels_of

_EVERY: Final = CallFilter()
_ANY: Final = SessionFilter()


class Scoring(msgspec.Struct, frozen=True):
    """The options about scores; None applies no filter. A record without a score matches no minimum."""

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


def scored(reader: Reader, scoring: Scoring) -> Reader:
    """Return a reader with the conditions on scores; the same reader if there are none."""
    return reader if scoring == Scoring() else cast("Reader", ScoredReader(reader, scoring))


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
    def _of_sessions(self) -> Mapping[str, Mapping[str, float]]:
        return self._reader.session_scores()

    @cached_property
    def _of_calls(self) -> dict[str, dict[str, float]]:
        return call_scores(self._reader, self._scoring.judged)

    @cached_property
    def _labels(self) -> Labels:
        return labels_of(self._reader, self._scoring.objectives)

    def labels_of(self, call: CallIds) -> Mapping[str, Sequence[str]]:
        """Return the labels of a call by their objectives, else those of its session."""
        return self._labels.calls.get(call.call_id) or self._labels.sessions.get(call.session_id or "", {})

    def scores_of(self, call: CallIds) -> dict[str, float]:
        """Return the scores of a call by their objectives, else those of its session, and the reward of the session."""
        names = {*self._scoring.judged, REWARD}
        of_session = self._of_sessions.get(call.session_id or "", {})
        return {name: of_session[name] for name in of_session if name in names} | self._of_calls.get(call.call_id, {})

    def _fits(self, call: CallIds) -> bool:
        earned = self._of_sessions.get(call.session_id or "", {}).get(REWARD)
        return self._is_enough(earned, self.scores_of(call)) and self._has_label(self.labels_of(call))

    def _has(self, session_id: str) -> bool:
        scores = self._of_sessions.get(session_id, {})
        return self._is_enough(scores.get(REWARD), scores) and self._has_label(self._labels.within.get(session_id, {}))

    def _has_label(self, given: Mapping[str, Sequence[str]]) -> bool:
        return self._scoring.label is None or self._scoring.label in chain.from_iterable(given.values())

    def _is_enough(self, earned: float | None, scores: Mapping[str, float]) -> bool:
        least, least_reward = self._scoring.min_score, self._scoring.min_reward
        if least_reward is not None and (earned is None or earned < least_reward):
            return False
        return least is None or all(name in scores and scores[name] >= least for name in self._scoring.judged)

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield the calls with enough score."""
        sign = 1 if which.newest_first else -1
        end = None if which.limit is None else which.offset + which.limit

        def choose(calls: Iterator[CallIds]) -> Iterator[CallIds]:
            found: Iterable[CallIds] = filter(self._fits, calls)
            if self._scoring.sorts:
                found = sorted(found, key=lambda one: self._place(self.scores_of(one), sign))
            return islice(found, which.offset, end)

        return self._reader.calls(msgspec.structs.replace(which, limit=None, offset=0), choose)

    def _place(self, scores: Mapping[str, float], sign: int = 1) -> float:
        """Return the sort key of a score: those without one are last."""
        return sign * scores.get(self._scoring.judged[0], sign * inf)

    def count_calls(self, which: CallFilter = _EVERY) -> int:
        """Return how many calls `calls` would yield without its limit."""
        return sum(map(self._fits, self._reader.ids(which)))

    def sessions(
        self,
        *,
        since_ns: int | None = None,
        limit: int | None = None,
        which: SessionFilter = _ANY,
        after: Sequence[int | str] | None = None,
    ) -> Iterator[SessionSummary]:
        """Yield the sessions with enough score, newest first unless sorted."""

        def choose(ids: Iterator[str]) -> Iterator[str]:
            found: Iterable[str] = filter(self._has, ids)
            if self._scoring.sorts:
                # The newest of the same score is first as it is.
                found = sorted(found, key=lambda one: self._place(self._of_sessions.get(one, {})))
            return islice(found, limit)

        return self._reader.sessions(since_ns=since_ns, which=which, after=after, choose=choose)

    def summary(
        self, by: str | Sequence[str], which: CallFilter = _EVERY, *, latencies: bool = True
    ) -> Iterator[Summary]:
        """Yield sums over the calls with enough score, largest number of calls first."""
        return self._reader.summary(by, which, latencies=latencies, choose=self._choose)

    def times(self, which: CallFilter = _EVERY) -> Iterator[Times]:
        """Yield the times of the calls with enough score that succeeded."""
        return self._reader.times(which, self._choose)

    @property
    def _choose(self) -> Choose | None:
        return partial(filter, self._fits) if self._scoring.chooses else None
