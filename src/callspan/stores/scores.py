"""Scores: filters and sorts the sessions and calls of a store by their scores and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from math import inf
from typing import Final, TypeVar

import msgspec

from callspan.record.reward_sums import REWARD, exact_total, mean
from callspan.stores import rewards
from callspan.stores.base import CallIds
from callspan.stores.database import Values, items
from callspan.stores.filters import CallFilter
from callspan.stores.reader import Reader

_T = TypeVar("_T")
_NONE: Final[Mapping[str, float]] = {}


class Scoring(msgspec.Struct, frozen=True):
    """Conditions on scores; None is no condition. A record without a score matches no minimum."""

    objectives: tuple[str, ...] = ()
    """Objectives to show and to which `min_score` applies; empty: the reward."""
    min_score: float | None = None
    min_reward: float | None = None
    label: str | None = None
    """Label of a reward or feedback, for any of the objectives if there are some."""
    sorts: bool = False
    """Sort by the score of the first objective, lowest first."""

    @property
    def judged(self) -> tuple[str, ...]:
        """The objectives to filter and sort by."""
        return self.objectives or (REWARD,)

    @property
    def chooses(self) -> bool:
        """Whether any session may be left out."""
        return self.min_score is not None or self.min_reward is not None or self.label is not None


def scored(reader: Reader, scoring: Scoring) -> Reader:
    """Return a reader with these conditions; the same reader if there are none."""
    return reader if scoring == Scoring() else ScoredReader(reader, scoring)


class ScoredReader(Reader):
    """A `Reader` whose lists and sums have only the sessions and calls that meet conditions on scores.

    A call has its own scores, else those of its session.
    """

    def __init__(self, reader: Reader, scoring: Scoring) -> None:
        super().__init__(reader._database)
        self.unscored = reader
        """The reader without these conditions."""
        self._scoring = scoring

    @cached_property
    def _of_sessions(self) -> dict[str, dict[str, float]]:
        every = "session_id IS NOT NULL"
        given = rewards.records_by_session(self._database, every, {})
        sums = rewards.sums_by_session(self._database, every, {}, given)
        return {session_id: one.by_objective for session_id, one in sums.items()}

    @cached_property
    def _of_calls(self) -> dict[str, dict[str, float]]:
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for one in self.rewards():
            is_of_call = one.scope == "call" and one.call_id is not None
            if is_of_call and one.value is not None and one.objective in self._scoring.judged:
                values[str(one.call_id)][one.objective].append(one.value)
        return {
            call_id: {name: mean(exact_total(some), len(some)) for name, some in by_objective.items()}
            for call_id, by_objective in values.items()
        }

    @cached_property
    def _labels(self) -> dict[tuple[str, str], dict[str, list[str]]]:
        """Labels by objective: of each call, of each session and its events, and of all within each session."""
        found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for one in self.rewards():
            if one.label and one.objective in (self._scoring.objectives or (one.objective,)):
                own = ("call", one.call_id) if one.scope == "call" else ("session", one.session_id)
                for kind, ident in (own, ("within", one.session_id)):
                    if ident is not None:
                        found[kind, ident][one.objective].append(one.label)
        return found

    def labels_of(self, call: CallIds) -> Mapping[str, Sequence[str]]:
        """Return the labels of a call, else those of its session, by objective."""
        return self._labels.get(("call", call.call_id)) or self._labels.get(("session", call.session_id or ""), {})

    def scores_of(self, call: CallIds) -> dict[str, float]:
        """Return the scores of a call, else those of its session, by objective, with the reward of the session."""
        names = {*self._scoring.judged, REWARD}
        of_session = self._of_sessions.get(call.session_id or "", {})
        return {name: of_session[name] for name in of_session if name in names} | self._of_calls.get(call.call_id, {})

    def fits(self, call: CallIds) -> bool:
        """Return whether a call meets the conditions."""
        earned = self._of_sessions.get(call.session_id or "", {}).get(REWARD)
        return self._is_enough(earned, self.scores_of(call)) and self._has_label(self.labels_of(call))

    def _has(self, session_id: str) -> bool:
        scores, given = self._of_sessions.get(session_id, {}), self._labels.get(("within", session_id), {})
        return self._is_enough(scores.get(REWARD), scores) and self._has_label(given)

    def _has_label(self, given: Mapping[str, Sequence[str]]) -> bool:
        return self._scoring.label is None or self._scoring.label in chain.from_iterable(given.values())

    def _is_enough(self, earned: float | None, scores: Mapping[str, float]) -> bool:
        least, least_reward = self._scoring.min_score, self._scoring.min_reward
        if least_reward is not None and (earned is None or earned < least_reward):
            return False
        return least is None or all(name in scores and scores[name] >= least for name in self._scoring.judged)

    def _listed_calls(self, selection: CallFilter) -> Iterator[CallIds]:
        every = super()._listed_calls(msgspec.structs.replace(selection, limit=None, offset=0))
        return self._page(filter(self.fits, every), self.scores_of, selection)

    def _listed_sessions(self, selection: CallFilter) -> Iterator[str]:
        every = super()._listed_sessions(msgspec.structs.replace(selection, limit=None, offset=0))
        lowest_first = msgspec.structs.replace(selection, newest_first=True)
        return self._page(filter(self._has, every), lambda one: self._of_sessions.get(one, _NONE), lowest_first)

    def _page(
        self, found: Iterable[_T], scores_of: Callable[[_T], Mapping[str, float]], selection: CallFilter
    ) -> Iterator[_T]:
        """Yield a page of ids, sorted by score if requested, those without a score last."""
        if self._scoring.sorts:
            name, sign = self._scoring.judged[0], 1 if selection.newest_first else -1
            found = sorted(found, key=lambda one: sign * scores_of(one).get(name, sign * inf))
        return islice(found, selection.offset, None if selection.limit is None else selection.offset + selection.limit)

    def _summed_where(self, selection: CallFilter) -> tuple[str, Values]:
        if not self._scoring.chooses:
            return super()._summed_where(selection)
        ids = [one.call_id for one in self.ids(selection) if self.fits(one)]
        return f"c.call_id IN ({self._database.dialect.items})", items(ids)
