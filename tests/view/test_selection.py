"""Selections: marked rows, and the commands that export exactly what is marked or filtered."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.commands import ask
from tests.support.records import SECOND, START_NS, Records
from tests.support.waiting import until
from tests.view.conftest import Delivery, Open, Show

from callspan.records import Record


def rows_of(records: Records) -> list[Record]:
    """Three sessions, the first with two calls, and a call outside of them."""
    made: list[Record] = [
        records.call([{"role": "user", "content": "out"}], "loose", call_id="out", at_s=50, trace_id="e" * 32)
    ]
    for number in range(3):
        made += [
            records.session(f"s{number}", start_ns=START_NS + 10 * number * SECOND, outcome="success", name="chat"),
            records.call([{"role": "user", "content": f"q{number}"}], f"a{number}", call_id=f"c{number}",
                         session_id=f"s{number}", at_s=10 * number, metadata={"variant": f"v{number}"}),
        ]  # fmt: skip
    more = [{"role": "user", "content": "more"}]
    return [*made, records.call(more, "again", call_id="c0b", session_id="s0", at_s=1)]


def run(command: str, file: Path) -> list[str]:
    """Run an export command that the page gives; return the last answer of each row."""
    words = shlex.split(command)
    assert words[0] == "callspan"
    words[words.index("-o") + 1] = str(file)
    answer = ask(*words[1:])
    assert answer.code == 0, answer.err
    return sorted(json.loads(line)["messages"][-1]["content"] for line in file.read_text().splitlines())


def export_of(page: Any, box: str) -> str:
    page.click(f"{box} .export summary")
    return str(page.inner_text(f"{box} .export pre"))


def test_marked_rows_are_exported_and_no_others(store: Delivery, records: Records, tab: Open, tmp_path: Path) -> None:
    store.write(*rows_of(records))
    one = tab(store.url, "", ".row.session")
    for ident in ("s1", "s2", "out"):
        one.tab.check(f".row[data-id={ident}] input[type=checkbox]")
    assert "3 marked" in one.tab.inner_text(".marked-line")
    assert run(export_of(one.tab, ".marked-line"), tmp_path / "three.jsonl") == ["a1", "a2", "loose"]
    one.tab.uncheck(".row[data-id=s2] input[type=checkbox]")
    assert run(str(one.tab.inner_text(".marked-line pre")), tmp_path / "two.jsonl") == ["a1", "loose"]
    one.tab.click("text=only these")
    one.tab.wait_for_selector(".sums-line:has-text('2 rows')")
    assert one.tab.locator(".row.session").count() == 2
    one.tab.click(".marked-line >> text=clear")
    assert one.tab.locator(".marked-line").count() == 0
    assert one.tab.locator(".row.picked").count() == 0


def test_marked_call_of_a_session_is_exported_without_the_others(
    store: Delivery, records: Records, tab: Open, tmp_path: Path
) -> None:
    store.write(*rows_of(records))
    one = tab(store.url, "calls", ".row.call")
    one.tab.check(".row[data-id=c0b] input[type=checkbox]")
    assert run(export_of(one.tab, ".marked-line"), tmp_path / "one.jsonl") == ["again"]
    one.tab.select_option("select[aria-label=variant]", label="v2")
    one.tab.wait_for_selector(".sums-line")
    assert run(export_of(one.tab, ".sums-line"), tmp_path / "other.jsonl") == ["a2"]


@pytest.mark.parametrize("width", [1440, 1280])
@pytest.mark.parametrize(("place", "selector"), [("", ".row.session"), ("calls", ".row.call")])
def test_box_of_a_row_hides_no_time(
    store: Delivery, records: Records, tab: Open, place: str, selector: str, width: int
) -> None:
    store.write(*rows_of(records))
    one = tab(store.url, place, selector, viewport={"width": width, "height": 700})
    cut = """one => {
      const time = document.createRange();
      time.selectNodeContents(one.lastChild);
      return one.scrollWidth > one.clientWidth
        || one.firstChild.getBoundingClientRect().right > time.getBoundingClientRect().left;
    }"""
    assert [one.inner_text() for one in one.tab.locator(".when").all() if one.evaluate(cut)] == []


def test_marked_rows_are_compared_the_last_two(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*rows_of(records))
    one = tab(store.url, "", ".row.session")
    for ident in ("s0", "s2", "s1"):
        one.tab.check(f".row[data-id={ident}] input[type=checkbox]")
    one.tab.click(".marked-line >> text=compare the last two")
    one.tab.wait_for_selector(".row.pair")
    assert "a=s2&b=s1" in one.tab.url


def test_selection_is_downloaded(store: Delivery, records: Records, tab: Open) -> None:
    """As JSON Lines, and as the report; a session's page has its report. What cannot be saved says why."""
    store.write(*rows_of(records))
    page = tab(store.url, "", ".row.session").tab
    page.check(".row[data-id=s1] input[type=checkbox]")
    page.click(".marked-line >> text=export these")
    with page.expect_download() as download:
        page.click(".marked-line >> text=download as JSONL")
    assert download.value.suggested_filename == "calls.jsonl"
    answer = ask("--store", store.url, "export", "openai-session", "-o", "-", "--id=s1")
    assert Path(download.value.path()).read_text() == answer.out
    with page.expect_download() as download:
        page.click(".marked-line >> text=save as a file")
    assert "s1" in Path(download.value.path()).read_text()
    page = tab(store.url, "session/s2", ".turn").tab
    with page.expect_download() as download:
        page.click("text=save as a file")
    assert download.value.suggested_filename == "s2.html"
    content = Path(download.value.path()).read_text()
    assert "Content-Security-Policy" in content
    assert '"s2"' in content
    assert '"s1"' not in content


@pytest.mark.parametrize("name", ["report", "lines"])
def test_nothing_to_save_is_said(name: str, store: Delivery, records: Records, show: Show) -> None:
    store.write(*rows_of(records))
    page = show(store.url)
    assert page.ask(f"/api/save/{name}?q=user:nobody").status == 404
    assert page.ask(f"/api/save/{name}?q=min-cost:x").status == 400
    assert page.ask("/api/save/else").status == 404


@pytest.mark.parametrize("name", ["report", "lines"])
def test_files_are_saved_by_the_page_alone_and_nothing_is_left(
    name: str, store: Delivery, records: Records, show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store.write(*rows_of(records))
    page = show(store.url)
    for given in ({"cookie": ""}, {"x_callspan_key": ""}, {"origin": "https://elsewhere.example"}):
        assert page.ask(f"/api/save/{name}?q=", **given).status == 403
    assert page.ask(f"/api/save/{name}?q=", "POST").status == 403
    saved = page.ask(f"/api/save/{name}?q=")
    assert (saved.status, b"q1" in saved.body) == (200, True)
    assert page.ask(f"/api/save/{name}?q=user:nobody").status == 404
    until(lambda: not [*tmp_path.glob("callspan-*")])


LINES = (
    "failed", "no-failed", "cut", "cut-off", "refused", "no-refused", "cached", "status:cancelled", "rate-limited",
    "session-status:interrupted", "session-status:in_progress", "retries:1", "failure", "success", "since:1h",
    "finish:waiting_for_approval", "user:u1", 'meta:"a b=c d"', "label:thumbs_down", "min-cost:0.01 sort:cost",
    "id:s1 id:c0", "max-tokens:9", '"a word" x',
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_export_command_selects_what_the_line_does(line: str, store: Delivery, records: Records, show: Show) -> None:
    store.write(*rows_of(records))
    page = show(store.url)
    words = page.get(f"/api/command?q={quote(line)}")
    answer = ask("--store", store.url, "--json", "export", "openai-session", "--dry-run", *words)
    assert answer.code in (0, 1), answer.err
    selected = page.get(f"/api/counts?of=calls&q={quote(line)}&words=")[""]
    assert (answer.json["rows"] > 0) is (selected > 0), words
