"""A hang says what was waited for."""

from __future__ import annotations

import pytest
from tests.support import waiting
from tests.support.waiting import until


def test_hang_prints_condition_values_and_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HANG_S", 0)
    arrived = ["first"]
    with pytest.raises(AssertionError) as failure:
        until(lambda number=2: len(arrived) == number, lambda: "the receiver has stopped")  # type: ignore[misc]
    text = str(failure.value)
    assert "until(lambda number=2: len(arrived) == number," in text
    for part in ("arrived = ['first']", "number = 2", "which is False", "state: the receiver has stopped"):
        assert part in text


def test_condition_returns_its_value() -> None:
    answers = iter(["", [], "there"])
    assert until(lambda: next(answers)) == "there"
