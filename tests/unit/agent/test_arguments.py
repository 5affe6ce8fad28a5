"""Values given by an application are converted if possible, and never raise."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.agent import arguments
from callspan.errors import application_error, outcome_of
from callspan.fail_open import forget_failures
from callspan.providers.error_kinds import MAX_MESSAGE_BYTES


class Broken:
    """Raises whatever it is asked."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("broken")

    __float__ = __int__ = __str__ = __bool__ = __iter__ = __len__ = _raise  # type: ignore[assignment]


class Scalar:
    """A number of somebody else's library."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        return f"Scalar({self.value})"


@pytest.fixture(autouse=True)
def _no_failures_left() -> Any:
    yield
    forget_failures()


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, 1.0), (0, 0.0), (-2.5, -2.5), (True, 1.0), (Decimal("0.1"), 0.1), (Fraction(1, 4), 0.25), (Scalar(3), 3.0),
        (None, None), ("1", None), ("", None), ([1], None), ({}, None), (1j, None), (Broken(), None), (10**400, None),
        (math.nan, None), (math.inf, None), (-math.inf, None), (Scalar(math.nan), None), (Decimal("NaN"), None),
    ],
)  # fmt: skip
def test_a_reward_is_a_finite_number_or_unknown(value: object, read: float | None) -> None:
    found = arguments.as_float(value)
    assert found == read
    assert found is None or type(found) is float


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3, 3),
        (0, 0),
        (2.9, 2),
        ("7", 7),
        (Scalar(4), 4),
        (None, None),
        ("x", None),
        ([], None),
        (Broken(), None),
        (math.nan, None),
    ],
)
def test_a_turn_is_a_whole_number_or_unknown(value: object, read: int | None) -> None:
    assert arguments.as_int(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [("a", "a"), ("", ""), (None, None), (7, "7"), (Scalar(1), "Scalar(1)"), (Broken(), None), (b"x", "b'x'")],
)
def test_any_name_is_converted_to_text(value: object, read: str | None) -> None:
    assert arguments.as_text(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [(True, True), (False, False), (None, None), (1, True), (0, False), (Scalar(0), False), (Broken(), None)],
)
def test_a_flag_is_a_bool_or_unknown(value: object, read: bool | None) -> None:
    assert arguments.as_bool(value) is read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (None, {}),
        ({}, {}),
        ({"a": 1, "b": None, "c": 0, "d": ""}, {"a": 1, "c": 0, "d": ""}),
        ({1: "x", None: "y"}, {"1": "x", "None": "y"}),
        (MappingProxyType({"a": [1]}), {"a": [1]}),
        ("text", {"metadata": "text"}),
        ([1, 2], {"metadata": [1, 2]}),
        (0, {"metadata": 0}),
    ],
)
def test_metadata_is_a_dict_without_what_is_unknown(value: object, read: dict[str, object]) -> None:
    assert arguments.as_dict(value) == read


def test_metadata_is_a_dict_of_its_own() -> None:
    given = {"a": 1}
    arguments.as_dict(given)["b"] = 2
    assert given == {"a": 1}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("abc", ["abc"]),
        ("", [""]),
        ([], []),
        (["a", 1, None], ["a", "1", ""]),
        (("a",), ["a"]),
        (Broken(), []),
        (3, []),
    ],
)
def test_ids_are_a_list_of_texts(value: Any, read: list[str]) -> None:
    assert arguments.as_texts(value) == read


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers())))
def test_no_value_of_the_application_raises(value: Any) -> None:
    number = arguments.as_float(value)
    assert number is None or math.isfinite(number)
    assert isinstance(arguments.as_int(value), int | None)
    assert isinstance(arguments.as_text(value), str | None)
    assert isinstance(arguments.as_bool(value), bool | None)
    assert None not in arguments.as_dict(value).values()
    assert all(isinstance(one, str) for one in arguments.as_texts(value))


class MuteError(ValueError):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


@pytest.mark.parametrize(
    ("error", "kind", "name", "message", "outcome"),
    [
        (ValueError("no"), "unknown", "ValueError", "no", "error"),
        (ValueError(), "unknown", "ValueError", "", "error"),
        (KeyError("k"), "unknown", "KeyError", "'k'", "error"),
        (MuteError(), "unknown", f"{__name__}.MuteError", None, "error"),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt", "", "cancelled"),
        (SystemExit(3), "cancelled", "SystemExit", "3", "cancelled"),
        (GeneratorExit(), "cancelled", "GeneratorExit", "", "cancelled"),
        (asyncio.CancelledError(), "cancelled", "asyncio.exceptions.CancelledError", "", "cancelled"),
        (asyncio.InvalidStateError("x"), "unknown", "asyncio.exceptions.InvalidStateError", "x", "error"),
    ],
)
def test_an_exception_of_the_application(
    error: BaseException, kind: str, name: str, message: str | None, outcome: str
) -> None:
    info = application_error(error)
    assert info is not None
    assert (info.kind, info.type, info.exception, info.message) == (kind, name, name, message)
    assert outcome_of(error) == outcome


@pytest.mark.parametrize("error", [ValueError("x" * 100_000), "x" * 100_000])
def test_a_long_message_is_cut_as_that_of_a_call(error: Exception | str) -> None:
    info = application_error(error)
    assert info is not None
    assert info.message is not None
    assert len(info.message.encode()) <= MAX_MESSAGE_BYTES
    assert info.message.endswith("…")


def test_text_is_a_message_without_an_exception_and_nothing_is_not_an_error() -> None:
    info = application_error("went wrong")
    assert info is not None
    assert (info.kind, info.type, info.exception, info.message) == ("unknown", "error", None, "went wrong")
    assert application_error(None) is None
    assert outcome_of(None) == "success"
