"""Proof: what is shipped is called by some test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import callspan
import callspan.testing

RETURNED = {"Replayed"}
"""What a function returns and nobody needs to name."""
TESTS = Path(__file__).resolve().parents[1]


def used_names() -> set[str]:
    """Every name and attribute that a test mentions in its code."""
    found: set[str] = set()
    for file in TESTS.rglob("*.py"):
        if file == Path(__file__):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(r"callspan\.(\w+)\(", node.value))
    return found


@pytest.mark.parametrize("module", [callspan, callspan.testing])
def test_every_public_name_is_used_by_a_test(module: object) -> None:
    """No helper is shipped that only a copy of it was tested."""
    names: list[str] = module.__all__  # type: ignore[attr-defined]
    assert sorted(set(names) - used_names() - RETURNED) == []
