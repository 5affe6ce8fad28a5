"""Scores of calls: the mean of what each call itself was given for an objective, by its id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from callspan.record.reward_sums import mean_of
from callspan.stores.base import Reader


def call_scores(reader: Reader, objectives: Collection[str]) -> dict[str, dict[str, float]]:
    """Return the mean of each of these objectives by the id of the call, of the calls that were given one."""
    given = [
        record
        for record in reader.rewards()
        if record.scope == "call" and record.value is not None and record.objective in objectives
    ]
    named = reader.calls_named({record.call_id for record in given if record.call_id is not None})
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in given:
        call_id = named.get(record.call_id or "")
        if call_id is not None and record.value is not None:
            values[call_id, record.objective].append(record.value)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (call_id, objective), some in values.items():
        mean = mean_of(some)
        if mean is not None:
            found[call_id][objective] = mean
    return found
