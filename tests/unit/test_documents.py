"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from callspan.config import Settings, variables

ROOT = Path(__file__).resolve().parents[2]


def rows() -> dict[str, str]:
    page = (ROOT / "docs/settings.md").read_text()
    return {match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE)}


def test_every_setting_is_documented_and_no_other() -> None:
    assert set(rows()) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(("setting", "variable"), sorted(variables().items()))
def test_every_variable_is_documented(setting: str, variable: str) -> None:
    assert f"`{variable}`" in rows()[setting]


def test_no_variable_is_documented_that_is_not_read() -> None:
    known = {*variables().values(), "CALLSPAN_WIRE_CORPUS", "CALLSPAN_REQUIRE_ENGINES", "CALLSPAN_TEST_CLICKHOUSE"}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        named = set(re.findall(r"`?(CALLSPAN_[A-Z_]+)`?", page.read_text()))
        assert named <= known, page.name


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
