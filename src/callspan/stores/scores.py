"""Scores: those of sessions and calls, and a store limited to minimum scores or a label, or sorted by a score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from math import inf
from typing import Final, NamedTuple, TypeAlias

import msgspec

from callspan.record.reward_sums import REWARD, mean_of
from callspan.stores.base import CallIds
from callspan.stores.database import Values, items
from callspan.stores.filters import CallFilter, SessionFilter
from callspan.stores.reader import Reader

_ByObjective: TypeAlias = dict[str, dict[str, list[str]]]
"""Labels by id and objective."""
_NONE: Final[Mapping[str, float]] = {}


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
    return reader if scoring == Scoring() else ScoredReader(reader, scoring)


class ScoredReader(Reader):
    """A `Reader` whose lists and sums have only sessions with minimum scores, and their calls.

    A call has the scores that it was given itself, else those of its session.
    """

    def __init__(self, reader: Reader, scoring: Scoring) -> None:
        super().__init__(reader._database)
        self._scoring = scoring

    @cached_property
    def _of_sessions(self) -> Mapping[str, Mapping[str, float]]:
        return self.session_scores()

    @cached_property
    def _of_calls(self) -> dict[str, dict[str, float]]:
        return call_scores(self, self._scoring.judged)

    @cached_property
    def _labels(self) -> Labels:
        return labels_of(self, self._scoring.objectives)

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

    def _place(self, scores: Mapping[str, float], sign: int = 1) -> float:
        """Return the sort key of a score: those without one are last."""
        return sign * scores.get(self._scoring.judged[0], sign * inf)

    def _listed_calls(self, which: CallFilter) -> Iterator[CallIds]:
        every = super()._listed_calls(msgspec.structs.replace(which, limit=None, offset=0))
        found: Iterable[CallIds] = filter(self._fits, every)
        if self._scoring.sorts:
            sign = 1 if which.newest_first else -1
            found = sorted(found, key=lambda one: self._place(self.scores_of(one), sign))
        return islice(found, which.offset, None if which.limit is None else which.offset + which.limit)

    def _listed_sessions(
        self, since_ns: int | None, limit: int | None, which: SessionFilter, offset: int
    ) -> Iterator[str]:
        found: Iterable[str] = filter(self._has, super()._listed_sessions(since_ns, None, which, 0))
        if self._scoring.sorts:
            # The newest of the same score is first as it is.
            found = sorted(found, key=lambda one: self._place(self._of_sessions.get(one, _NONE)))
        return islice(found, offset, None if limit is None else offset + limit)

    def _summed_where(self, which: CallFilter) -> tuple[str, Values]:
        if not self._scoring.chooses:
            return super()._summed_where(which)
        ids = [one.call_id for one in self.ids(which) if self._fits(one)]
        return f"c.call_id IN ({self._database.dialect.items})", items(ids)


class Labels(NamedTuple):
    """The labels that were given."""

    calls: _ByObjective
    """To calls themselves."""
    sessions: _ByObjective
    """To sessions and their events."""
    within: _ByObjective
    """Both, by session."""


def labels_of(reader: Reader, objectives: Collection[str]) -> Labels:
    """Return the labels with these objectives; of all, where none is named."""
    given = [one for one in reader.rewards() if one.label and (not objectives or one.objective in objectives)]
    found = Labels({}, {}, {})
    for one in given:
        ident = one.call_id if one.scope == "call" else one.session_id
        own = found.calls if one.scope == "call" else found.sessions
        for by_id, key in ((own, ident), (found.within, one.session_id)):
            if key is not None and one.label:
                by_id.setdefault(key, {}).setdefault(one.objective, []).append(one.label)
    return found


def call_scores(reader: Reader, objectives: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the mean of each of these objectives by the id of the call, of the calls that were given one."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in reader.rewards():
        if one.scope == "call" and one.value is not None and one.call_id is not None and one.objective in objectives:
            values[one.call_id, one.objective].append(one.value)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (call_id, objective), some in values.items():
        mean = mean_of(some)
        if mean is not None:
            found[call_id][objective] = mean
    return found
