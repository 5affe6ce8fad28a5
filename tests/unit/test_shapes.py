"""The shapes of the package: how deep its classes are, and that a class name stands for one thing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import callspan

SOURCE = Path(callspan.__file__).parent


CLASS = re.compile(r"^ *class ([A-Za-z]\w*)", re.MULTILINE)


def test_no_class_name_stands_for_three_things() -> None:
    names = Counter(name for path in SOURCE.rglob("*.py") for name in CLASS.findall(path.read_text()))
    assert [name for name, count in names.items() if count > 2] == []


@pytest.mark.parametrize("kind", [callspan.Session, callspan.Timestep])
def test_sessions_and_timesteps_are_three_classes_deep(kind: type) -> None:
    def depth(one: type) -> int:
        return one.__module__.startswith("callspan.") + max(map(depth, one.__bases__), default=0)

    assert depth(kind) == 3
