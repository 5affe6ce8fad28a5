"""Pages: their links, names and figures, and the example of feedback."""

from __future__ import annotations

import dataclasses
import re
from importlib.metadata import metadata
from pathlib import Path

from callspan import Settings
from callspan.cost.price_table import read_prices
from callspan.settings_loader import variables
from callspan.testing import Captured, Reply
from tests.support.pages import ROOT, links, pages, readme


def rows() -> dict[str, str]:
    page = (ROOT / "docs/settings.md").read_text()
    return {match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE)}


def test_every_setting_is_documented_and_no_other() -> None:
    assert set(rows()) == set(Settings.__struct_fields__)


def test_every_variable_is_documented_and_none_that_is_not_read() -> None:
    shown = rows()
    assert [one for setting, one in variables().items() if f"`{one}`" not in shown[setting]] == []
    known = {*variables().values(), "CALLSPAN_SCALE"}
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        assert set(re.findall(r"`?(CALLSPAN_[A-Z_]+)`?", page.read_text())) <= known, page.name


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        assert [str(target) for target in links(page) if not target.exists()] == [], page.name


def test_every_document_can_be_reached_from_the_readme() -> None:
    """By links on the README itself: nobody looks for a page that he has not heard of."""
    missing = {page.name for page in (ROOT / "docs").rglob("*.md")} - {page.name for page in links(readme())}
    assert missing == set()
    assert set((ROOT / "docs").glob("*.md")) <= set(pages())


def test_the_price_file_of_the_documents_is_taken(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/cost.md").read_text(), re.DOTALL)
    file = tmp_path / "prices.json"
    file.write_text(block)
    assert read_prices(file).version == "contract-7"


def named(table: str) -> set[str]:
    """The names in the first column."""
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_field_of_a_scripted_reply_and_property_of_a_capture_is_documented() -> None:
    page = (ROOT / "docs/testing.md").read_text()
    properties = {name for name, member in vars(Captured).items() if isinstance(member, property)}
    fields = page.partition("### The fields of a reply")[2].partition("###")[0]
    assert named(fields) == {field.name for field in dataclasses.fields(Reply)}
    assert named(page.partition("| `seen.`")[2]) == properties


def test_every_extra_is_documented() -> None:
    table = (ROOT / "docs/support.md").read_text().partition("## Extras")[2].partition("##")[0]
    assert named(table) == set(metadata("callspan").get_all("Provides-Extra") or ())
