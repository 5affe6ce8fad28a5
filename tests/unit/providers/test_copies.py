"""Copies: equal to the original without shared containers."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from callspan.providers.wire_json import detached


def containers(value: object) -> set[int]:
    if not isinstance(value, dict | list):
        return set()
    inner = value.values() if isinstance(value, dict) else value
    return {id(value)}.union(*(containers(item) for item in inner))


@pytest.mark.parametrize(
    "value",
    [
        {"pair": (1, 2)},
        ("\0", "\ud83d", {"x": ("\ud83d",)}),
        {1: "a", 1.5: "b"},
        {True: "c"},
        {None: {False: (None,)}},
    ],
)
def test_a_copy_is_what_the_wire_has(value: Any) -> None:
    """As the SDKs write it, with the standard library."""
    assert detached(value) == json.loads(json.dumps(value))


def test_values_that_are_not_json_are_converted() -> None:
    assert detached({"at": dt.date(2026, 1, 2)}) == {"at": "2026-01-02"}


def test_cyclic_values_are_cut_off() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "<too deep>" in repr(detached(value))
