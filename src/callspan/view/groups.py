"""Groups: two groups of sessions compared, as `callspan compare A B` does: means, differences and their intervals."""

from __future__ import annotations

import msgspec

from callspan.comparison.differences import Difference, compare_groups, parse_selector, select_groups
from callspan.comparison.groups import session_values
from callspan.comparison.intervals import MIN_VALUES
from callspan.formatting import plural
from callspan.stores import as_row
from callspan.view.source import BadQueryError, PageRequest, Row


class GroupsPage(msgspec.Struct):
    """The comparison of two groups."""

    labels: list[str]
    sessions: list[int]
    in_both: int
    """Number of sessions with both values, which are in neither group."""
    rows: list[Row]
    """Per measure: `kind`, `name`, `a`, `b`, `difference`, `low`, `high`, `numbers`, `paired`, `too_few`."""
    least: int
    """Smallest number of values for an interval."""


def page(request: PageRequest) -> GroupsPage:
    """Return the comparison of the groups `a` and `b`, such as `meta:prompt_version=3` and `=4`.

    Raises BadQueryError for an invalid group, LookupError if one has no sessions.
    """
    reader, selection = request.filtered()
    try:
        first = parse_selector(request.required("a"))
        selectors = first, parse_selector(request.required("b"), first)
    except ValueError as error:
        raise BadQueryError(str(error)) from error
    sessions = session_values(reader, selection, [selector.by for selector in selectors])
    groups, in_both = select_groups(sessions, selectors)
    for selector, group in zip(selectors, groups, strict=True):
        if not group:
            other = f" {plural(in_both, 'session')} with both values." if in_both else ""
            raise LookupError(f"No session has {selector.label}.{other}")
    return GroupsPage(
        labels=[selector.label for selector in selectors],
        sessions=[len(group) for group in groups],
        in_both=in_both,
        rows=[_row(difference) for difference in compare_groups(*groups)],
        least=MIN_VALUES,
    )


def _row(difference: Difference) -> Row:
    bounds = difference.interval
    values = {
        "a": difference.first,
        "b": difference.second,
        "difference": difference.difference,
        "low": bounds and bounds.low,
        "high": bounds and bounds.high,
    }
    numbers = {"numbers": difference.numbers, "paired": difference.paired, "too_few": difference.is_too_few}
    return {"kind": difference.measure.kind, "name": difference.measure.name, **as_row(values), **numbers}
