"""Plain JSON: small dicts are copied a short way, with the same result."""

from __future__ import annotations

import math
from typing import Any

from callspan.record.plain_json import plain

VALUES: list[Any] = [
    1, -1, True, None, 0.5, 1e300, -0.0, math.nan, math.inf, -math.inf, 2**63, -(2**63), 2**5000, "a", "\0", "\ud800",
    [], [1, 2], [1.5, math.nan], [1, True], [1, "a"], [2**64], {}, {"b": [1, 2], "c": {"d": {"e": 1}}}, (1, 2), b"x",
    {1: 2}, {"\0": 1},
]  # fmt: skip


def test_small_dicts_are_what_they_are_within_a_list() -> None:
    for value in VALUES:
        given = {"a": value, "b": {"c": value}}
        (expected,) = plain([given])  # type: ignore[misc, attr-defined]
        assert repr(plain(given)) == repr(expected), value


def test_nothing_of_the_application_is_kept() -> None:
    inner = [1, 2]
    copied: Any = plain({"a": inner, "b": {"c": inner}})
    inner.append(3)
    assert copied == {"a": [1, 2], "b": {"c": [1, 2]}}
