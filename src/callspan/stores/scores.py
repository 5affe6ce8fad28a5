"""Scores of calls: the mean of each call's own rewards for an objective, by id; and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple, TypeAlias

from callspan.record.reward_sums import mean_of
from callspan.stores.reader import Reader

_ByObjective: TypeAlias = dict[str, dict[str, list[str]]]
"""Labels by id and objective."""


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
