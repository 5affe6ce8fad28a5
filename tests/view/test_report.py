"""The report is the page with its data in one file: of the selected calls and their sessions."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.world import World
from tests.view.conftest import QUESTION, Reading, Report, data, entries, play, sessions

from callspan.records import ErrorInfo

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '" onmouseover="document.title=\'owned\'" x="',
    "<!--<script>",
    "]]><svg onload=document.title='owned'>",
    "[click](javascript:document.title='owned') **bold** `code`",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "left\u202eright\u202c \u200bhidden \u2028 line",
    "${alert(1)} {{7*7}} %s",
    "data:text/html,<script>document.title='owned'</script>",
    "<svg onload=\"document.title='owned'\"><style>*{}</style></svg>",
    "</title></style></template>\u2029\u0085",
]


def test_report_contains_steps_calls_and_events(world: World, report: Report) -> None:
    play(world)
    page = report()
    inside = entries(page)
    maze = next(row for row in sessions(page) if row["session_id"] == "s1")
    assert (maze["name"], maze["outcome"], maze["reward"], maze["cost_usd"]) == ("maze", "success", 1.0, "0.001")
    assert (maze["metadata"], maze["title"]) == ({"seed": 7}, "?")
    (step,) = next(pages[0]["steps"] for pages in data(page)["sessions"] if pages[0]["session"]["session_id"] == "s1")
    assert (step["timestep_position"], step["duration_ns"], step["reward"], step["terminated"]) == (0, 10**9, 0.5, True)
    (call,) = [one["call"] for one in inside["s1"] if one["kind"] == "call"]
    shown = ("model", "duration_ns", "first_token_ns", "input_tokens", "cost_usd", "retries", "output")
    assert [call[name] for name in shown] == ["gpt-5", 10**9, 250 * 10**6, 10, "0.001", 1, "Left."]
    assert [(one["kind"], one["record"].get("data")) for one in inside["s1"] if one["kind"] != "call"] == [
        ("reward", None),
        ("environment", {"after": "a wall"}),
        ("tool", {"arguments": {"a": 1}, "result": "wall"}),
    ]
    (failed,) = [one for one in inside["s2"] if one["call"]]
    assert (failed["call"]["http_status"], failed["turn"]["error"]) == (429, "Slow down.")
    assert [one["call"]["output"] for one in inside[""]] == ["Loose."]


def test_report_loads_nothing_external(world: World, report: Report) -> None:
    play(world)
    page = report()
    reading = Reading(page)
    assert not {"img", "iframe", "object", "embed", "base"} & {tag for tag, _ in reading.elements}
    assert [a for tag, a in reading.elements if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    for _, attributes in reading.elements:
        assert not {"src", "srcset", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#")[0] in "#d"
    (policy,) = [a["content"] for tag, a in reading.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "url(" not in page
    assert "@import" not in page


def test_report_contains_only_sessions_of_selected_calls(world: World, report: Report) -> None:
    play(world)
    world.chat(QUESTION, "aside-words", "s1", model="gpt-6")
    world.chat(QUESTION, "unselected", model="gpt-6")
    assert [row["session_id"] for row in sessions(report("--session", "s2"))] == ["s2"]
    page = report("--failed")
    assert [row["session_id"] for row in sessions(page)] == ["s2"]
    assert not {word for word in ("maze", "Left.", "Loose.", "aside-words", "unselected") if word in page}
    page = report("--model", "gpt-5")
    assert data(page)["contents"]["calls"] == 2
    inside = entries(page)
    assert {one["call"]["output"] for one in inside["s1"] if one["call"]} == {"Left.", "aside-words"}
    assert [one["call"]["output"] for one in inside[""]] == ["Loose."]
    assert "unselected" not in page


def test_report_is_written_atomically(world: World, report: Report, tmp_path: Path) -> None:
    play(world)
    report()
    target, store = tmp_path / "report.html", tmp_path / "1.db"
    target.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a disk that is full
    try:
        answer = ask("--store", str(store), "report", "-o", str(target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (answer.code, "File too large" in answer.err) == (1, True)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def test_report_of_a_large_store_has_the_newest_sessions(
    world: World, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        world.session(f"s{number:02}", reward=1.0)
        for _ in range(4):
            world.chat(QUESTION, "x" * 100, f"s{number:02}")
    for _ in range(40):
        world.chat(QUESTION, "x" * 100)
    monkeypatch.setattr("callspan.view.report._MAX_BYTES", 72_000)
    monkeypatch.setattr("callspan.view.session._ROWS", 3)  # a whole session has two pages
    page = report()
    found, inside = data(page)["contents"], entries(page)
    outside = inside.pop("")
    assert (found["calls"], found["sessions"], found["outside"]) == (160, 30, 40)
    assert [*inside] == [f"s{29 - number:02}" for number in range(len(inside))]
    assert {len(rows) for rows in inside.values()} == {5}, "four calls and a reward"
    assert (found["missing_sessions"], found["missing_outside"]) == (30 - len(inside), 40 - len(outside))
    assert 5 < len(inside) < 30
    assert 5 < len(outside) < 40
    assert f"{30 - len(inside)} of 30 sessions and {40 - len(outside)} of 40 calls" in found["missing"]
    assert len(page[page.index('id="data"') : page.index("</script>")]) < 76_000


def test_command_names_the_written_report(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(world)
    url, target = world.write(tmp_path / "calls.db"), tmp_path / "r.html"
    counts = {"calls": 3, "sessions": 2, "missing_sessions": 0, "missing_outside": 0}
    said = ask("--store", url, "report", "-o", str(target), "--json").json
    assert said == {"file": str(target), "bytes": target.stat().st_size, **counts}
    monkeypatch.chdir(tmp_path)
    for command in (("report",), ("view", "--save", "saved.html")):
        assert "3 calls, 2 sessions," in ask("--store", url, *command).out
    files = (tmp_path / "report.html", tmp_path / "saved.html", target)
    written, saved, named = (re.sub(r'"at_ns":\d+', "", path.read_text()) for path in files)
    assert written == saved == named  # but for when each was made


def fill(world: World, text: str) -> None:
    """Put a text everywhere a page could show it."""
    world.session("s1", reward=1.0, name=text, metadata={text: text}, outcome=text)
    error = ErrorInfo(kind=text, type=text, message=text, status=400)
    message: list[dict[str, Any]] = [{"role": "user", "content": text}]
    world.chat(message, text, "s1", model=text)
    world.chat(message, text, "s1", model=text, outcome="error", error=error)
    world.event("s1", event_type=text, name=text, data={text: text})
    world.event("s1", event_type="tool", name=text, data={"arguments": {"a": text}, "result": text})
    world.session("s2", reward=0.5, name=text)
    world.reward("s2", 1.0, scope="call", label=text, objective=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_report_escapes_markup_and_control_characters(world: World, report: Report, text: str) -> None:
    fill(world, "harmless")
    expected = [tag for tag, _ in Reading(report()).elements]
    world.records.clear()
    fill(world, text)
    page = report()
    reading = Reading(page)
    assert [tag for tag, _ in reading.elements] == expected
    for _, attributes in reading.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "src"}]
    assert sessions(page)[1]["name"], "the rows are JSON still"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2066-\u2069]", page)
