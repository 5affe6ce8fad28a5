"""Wording: words of a private dialect stay out of the package and of test names; plain terms are used instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.pages import ROOT

_SOURCE = re.compile(r"(?<![a-z])(happenings?|whereabouts|shelf|astray|gist|told|said|whoever|nought)(?![a-z])")
"""Words that once named things here; the standard terms are event, span reference, segment set, missing, text.

What was `told` is a value, result or report; what was `said` a text, message or line.
"""
_ELSEWHERE = re.compile(r"\b(told|said|asked|whoever|nought)\b")
"""Words kept out of the programs around the package, which readers see too."""
_TEST_NAME = re.compile(
    r"\bdef (test_\w*?(?:_(?:without_us|of_ours|what_is_no|nought|aloud"
    r"|hangs_below)(?:_\w+)?))\("
)


@pytest.mark.parametrize("package", sorted(path.name for path in (ROOT / "src/callspan").iterdir()))
def test_the_package_uses_no_private_words(package: str) -> None:
    top = ROOT / "src/callspan" / package
    files = [top] if top.suffix == ".py" else sorted(top.rglob("*.py"))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in _SOURCE.findall(line.lower())
    ]
    assert found == []


_TESTS = re.compile(r"\b(told|whoever|nought)\b")
"""Words kept out of the tests, whose data may have others."""


@pytest.mark.parametrize("folder", ["bench", "examples", "tools", "tests"])
def test_the_programs_around_the_package_use_plain_words(folder: str) -> None:
    words = _TESTS if folder == "tests" else _ELSEWHERE
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for word in words.findall(line.lower())
    ]
    assert found == []


def test_names_of_tests_are_plain_words() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert [name for path in files for name in _TEST_NAME.findall(path.read_text())] == []
