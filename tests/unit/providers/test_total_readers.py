"""The readers of wire JSON are total: a value of another type is absent, nothing raises."""

from __future__ import annotations

import pytest

from callspan.providers import wire

ODD: list[object] = [None, "x", True, False, [], {}, [1], {"a": 1}]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_number_is_absent(odd: object) -> None:
    assert wire.number({"a": odd}, "a") is None
    assert wire.number(odd, "b") is None


@pytest.mark.parametrize(("found", "number"), [(3, 3.0), (0, 0.0), (-1.5, -1.5)])
def test_numbers_are_read_as_they_are(found: object, number: float) -> None:
    assert wire.number({"a": {"b": found}}, "a", "b") == number


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_integer_is_absent(odd: object) -> None:
    assert wire.integer({"a": odd}, "a") is None


@pytest.mark.parametrize(
    ("value", "whole"), [("1" * 19, int("1" * 19)), ("1" * 20, None), ("", None), ("-1", None), ("\u0663", None)]
)
def test_digits_are_a_whole_number_up_to_nineteen(value: str, whole: int | None) -> None:
    assert wire.integer({"a": value}, "a") == whole


@pytest.mark.parametrize("value", [0, 1, "true", None, [], {}])
def test_only_a_boolean_is_a_flag(value: object) -> None:
    assert wire.flag({"a": value}, "a") is None
    assert wire.flag({"a": True}, "a") is True
