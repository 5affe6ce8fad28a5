"""Points: many cases in one test, which reports every failing case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from _pytest._io.saferepr import saferepr
from _pytest.mark import ParameterSet

Test = Callable[..., None]


class PointsError(AssertionError):
    """Some points fail; the first failure is the cause."""


def points(
    names: str | Sequence[str], values: Iterable[Any], *, ids: Iterable[str] | Callable[[Any], object] | None = None
) -> Callable[[Test], Test]:
    """Return a decorator that takes what `pytest.mark.parametrize` takes and makes one test of all cases.

    Fixtures are made once, not for each point: this is for functions that leave nothing behind.
    """
    wanted = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    cases = [_case(wanted, value) for value in values]
    case_names = list(ids) if ids is not None and not callable(ids) else None
    assert cases
    assert case_names is None or len(case_names) == len(cases)

    def one_test(function: Test) -> Test:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def every_point(*args: Any, **fixtures: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            for place, case in enumerate(cases):
                try:
                    function(*args, **fixtures, **dict(zip(wanted, case, strict=True)))
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all failures are reported
                    failed.append((_name(wanted, case, ids) if case_names is None else case_names[place], error))
            if failed:
                lines = [f"{len(failed)} of {len(cases)} points fail:", *(_line(*each) for each in failed)]
                raise PointsError("\n".join(lines)) from failed[0][1]

        left = [parameter for parameter in signature.parameters.values() if parameter.name not in wanted]
        assert len(left) == len(signature.parameters) - len(wanted), f"{function.__name__} does not take {names}"
        every_point.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return every_point

    return one_test


def _case(names: Sequence[str], value: Any) -> Sequence[Any]:
    assert not isinstance(value, ParameterSet), "marks and ids of single cases are for pytest.mark.parametrize"
    return (value,) if len(names) == 1 else tuple(value)


def _name(names: Sequence[str], case: Sequence[Any], given: object) -> str:
    """Return the name of a point: its values as `given` shows them, else as pytest would."""
    show = given if callable(given) else saferepr
    return ", ".join(f"{name}={show(value)}" for name, value in zip(names, case, strict=True))


def _line(name: str, error: BaseException) -> str:
    text = str(error) if isinstance(error, PointsError) else str(error).partition("\n")[0]
    return f"  {name}: {type(error).__name__}: {text}".replace("\n", "\n  ")
