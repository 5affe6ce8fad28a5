"""Pages: their links, names and figures, and the example of feedback."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib.metadata import metadata
from pathlib import Path

import openai

import callspan
from callspan import Settings
from callspan.cost.price_table import read_prices
from callspan.settings_loader import variables
from callspan.testing import Captured, Reply, ScriptedProvider
from tests.support.commands import ask
from tests.support.pages import ROOT, examples, links, pages, readme


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


def test_json_in_the_documents_is_json() -> None:
    found = [block for page in pages() for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len([json.loads(block) for block in found]) >= 2


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


def test_every_test_that_a_document_names_is_there() -> None:
    named = {path for page in pages() for path in re.findall(r"`(tests/[\w/]+\.py)", page.read_text(encoding="utf-8"))}
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


RECIPE = 'callspan.feedback(page["call_id"], label="thumbs_up"'


def test_a_rating_of_the_page_is_found_and_compared(tmp_path: Path) -> None:
    (recipe,) = [one.code for one in examples(ROOT / "docs/evaluation.md") if RECIPE in one.code]
    store = f"sqlite:///{tmp_path / 'calls.db'}"
    handle = callspan.instrument(stores=store)
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        for number in range(3):
            for label, experiment in (("thumbs_up", "liked"), ("thumbs_down", "disliked")):
                rated = recipe.replace("thumbs_up", label).replace('task_id="t9"', f'task_id="t{number}"')
                with callspan.metadata(experiment=experiment):
                    exec(rated, {"callspan": callspan, "client": client})
    assert handle.force_flush()
    handle.uninstrument()

    liked = ask("--store", store, "calls", "--label", "thumbs_up", "--json").json
    best = ask("--store", store, "calls", "--objective", "feedback", "--min-score", "1", "--json").json
    assert len(liked) == 3
    assert {row["call_id"] for row in liked} == {row["call_id"] for row in best}
    compared = ask("--store", store, "compare", "meta:experiment=liked", "=disliked", "--json").json
    (feedback,) = [row for row in compared["measures"] if row["measure"] == "feedback"]
    assert (feedback["a"], feedback["b"], feedback["n"]) == (1.0, 0.0, [3, 3])


def test_every_lock_is_in_the_table_and_those_reported_as_reentrant_are() -> None:
    source, page = ROOT / "src/callspan", (ROOT / "docs/architecture.md").read_text()
    made = {
        file.relative_to(source).as_posix(): kinds
        for file in source.rglob("*.py")
        if (kinds := set(re.findall(r"\b(R?Lock)\(\)", file.read_text())))
    }

    def listed(kind: str) -> set[str]:
        (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", page, re.MULTILINE)
        return set(re.findall(r"`([\w/]+\.py)`", row))

    # `forks` makes plain locks anew for others.
    assert listed("reentrant") == {name for name, kinds in made.items() if "RLock" in kinds}
    assert listed("never taken by a call") == {name for name, kinds in made.items() if kinds == {"Lock"}}
