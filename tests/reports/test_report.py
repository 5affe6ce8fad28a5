"""The report shows the content of the store, in one file without network access."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from callspan.cli.commands import callspan
from callspan.formatting import UNKNOWN
from callspan.record.call import CallRecord, ErrorInfo, Place, Timing
from callspan.record.events import TimestepRecord, Totals
from callspan.record.usage import Cost, Usage
from callspan.reports import gathering, write_report
from callspan.stores.urls import open_store
from tests.datasets.conftest import SECOND, START_NS, World

from .conftest import Report

QUESTION = [{"role": "user", "content": "?"}]


class Reading(HTMLParser):
    """Reads a page: its elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def rows(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def play(world: World) -> None:
    """Two sessions, one of which fails, and a call outside."""
    world.session("s1", reward=1.0, success=True, name="maze", metadata={"seed": 7})
    start = START_NS + 100 * SECOND
    step = TimestepRecord(
        timestep_id="t1",
        session_id="s1",
        seen_ns=1,
        index=0,
        start_ns=start,
        end_ns=start + SECOND,
        totals=Totals(reward=0.5),
        terminated=True,
    )
    world.records.append(step)
    place = Place(session_id="s1", timestep_id="t1", timestep=0)
    timing = Timing(start_ns=start, duration_ns=SECOND, first_token_ns=SECOND // 4)
    world.chat(QUESTION, "Left.", "s1", place=place, timing=timing, retries=1)
    world.event("s1", timestep_id="t1", event_type="environment", reward=0.5, data={"after": "a wall"})
    world.event("s1", timestep_id="t1", event_type="tool", name="look", data={"arguments": {"a": 1}, "result": "wall"})
    world.session("s2", reward=-1.0, success=False, outcome="failure")
    error = ErrorInfo(kind="rate_limit", type="rate_limit_error", status=429, message="Slow down.")
    world.chat(QUESTION, "?", "s2", outcome="error", error=error, usage=None, cost=None, model="gpt-6")
    dear = Cost(usd=Decimal("0.0000000001"), source="t")
    world.chat(QUESTION, "Loose.", usage=Usage(input_tokens=0), cost=dear)


def test_the_head_has_the_sums(world: World, report: Report) -> None:
    play(world)
    text = Reading(report()).text
    for fact in (
        "calls 3",
        "sessions 2",
        "errors 1 33.3 %",
        "retries 1",
        "tokens in 10",
        "cost $0.001 unknown for 1 call",
    ):
        assert fact in text


def test_each_model_has_its_row(world: World, report: Report) -> None:
    play(world)
    text = Reading(report()).text
    assert "gpt-5 2 0 1 10 5 $0.001 750 ms 975 ms 250 ms" in text
    assert f"gpt-6 1 1 0{6 * f' {UNKNOWN}'}" in text


def test_the_chart_marks_the_percentiles_that_the_table_and_the_statistics_show(
    world: World, report: Report, tmp_path: Path
) -> None:
    for duration_ms in (0, 100, 200, 400):
        world.chat(QUESTION, "Left.", timing=Timing(start_ns=START_NS, duration_ns=duration_ms * 10**6))
    text = Reading(report()).text
    assert "150 ms 370 ms" in text, "the row of the model"
    assert "p50 150 ms" in text
    assert "p95 370 ms" in text
    reader = open_store(world.write(tmp_path / "same.db"))
    (summary,) = reader.summary("model")
    assert (summary.p50_ms, summary.p95_ms) == pytest.approx((150, 370))
    reader.close()


def test_errors_are_reported_with_their_last_message(world: World, report: Report) -> None:
    play(world)
    text = Reading(report()).text
    assert "rate_limit rate_limit_error (429) 1 gpt-6 (1)" in text
    assert "Slow down." in text


def test_rewards_and_times_are_drawn(world: World, report: Report) -> None:
    play(world)
    reading = Reading(report())
    labels = [attributes.get("aria-label") for tag, attributes in reading.elements if tag == "svg"]
    assert "reward of 2 sessions, and the mean of the last 10" in labels
    assert "time of a call: 2 calls" in labels
    assert "time to first token: 1 call" in labels
    dots = [attributes["class"] for tag, attributes in reading.elements if tag == "circle"]
    assert dots == ["few good", "few bad"]


def test_sessions_come_with_their_steps_calls_and_events(world: World, report: Report) -> None:
    play(world)
    data = rows(report())
    assert data["models"] == ["gpt-5", "gpt-6"], "in the order they were last asked"
    by_id = {session["id"]: session for session in data["sessions"]}
    maze = by_id["s1"]
    assert (maze["name"], maze["outcome"], maze["reward"], maze["cost"]) == ("maze", "success", 1.0, "0.001")
    assert maze["steps"] == [[0, 99000.0, 1000.0, 0.5, "terminated"]]
    (call,) = maze["calls"]
    assert call[:11] == [0, 99000.0, 0, "success", 1000.0, None, 10, 5, "0.001", 1, "Left."]
    assert [event[2:5] for event in maze["events"]] == [
        ["reward of the session", "reward", 1.0],
        ["environment", "a wall", 0.5],
        ["tool", 'look {"a":1} → wall', None],
    ]
    assert by_id["s2"]["calls"][0][11] == "Slow down."
    assert by_id[""]["name"] == "calls outside sessions"


def judged(world: World) -> None:
    """Sessions of two users with two versions of a prompt, on two days; a judge scored two of them."""
    day = 24 * 3600 * SECOND
    for number, (user, version, reward) in enumerate((("ann", 3, 1.0), ("ann", 4, 0.0), ("bob", 4, 1.0))):
        metadata = {"prompt_version": version}
        start = START_NS + number * day // 2
        world.session(f"s{number}", reward, user_id=user, start_ns=start, success=reward > 0, metadata=metadata)
        world.chat(QUESTION, f"First of {user}.", f"s{number}")
        world.chat(QUESTION, f"Last of {user}.", f"s{number}", choice={"finish_reason": "length"})
        world.chat(QUESTION, "", f"s{number}")
    world.reward("s0", 0.8, objective="judge")
    world.reward("s2", 0.4, objective="judge")
    world.chat(QUESTION, "Loose.")


def test_sessions_have_their_user_outcome_marks_and_last_message(world: World, report: Report) -> None:
    judged(world)
    *sessions, loose = rows(report())["sessions"]
    shown = [(s["id"], s["user"], s["outcome"], s["marks"], s["last"]) for s in sessions]
    assert shown == [
        ("s2", "bob", "success", "1 cut by length", "Last of bob."),
        ("s1", "ann", "success", "1 cut by length", "Last of ann."),
        ("s0", "ann", "success", "1 cut by length", "Last of ann."),
    ]
    assert loose["last"] == "Loose."
    assert [s["scores"] for s in sessions] == [{"judge": [0.4, "+0.4"]}, {}, {"judge": [0.8, "+0.8"]}]


def test_sessions_are_broken_down_by_user_prompt_version_and_day(world: World, report: Report) -> None:
    judged(world)
    text = Reading(report()).text
    heads = "sessions success reward judge calls errors tokens in out cost time each"
    ann, bob = "2 50 % +0.5 +0.8 6 0 60 30 $0.006", "1 100 % +1 +0.4 3 0 30 15 $0.003"
    assert f"Sessions by user user {heads} ann {ann}" in text
    assert f" bob {bob}" in text
    assert f"Sessions by prompt version prompt version {heads} 4 2 50 % +0.5 +0.4 6 " in text
    assert "Sessions by day day" in text
    assert "2026-11-19" in text


def test_a_label_that_no_session_has_has_no_breakdown(world: World, report: Report) -> None:
    play(world)
    text = Reading(report()).text
    assert "Sessions by user" not in text
    assert "Sessions by day" in text


def test_idle_time_is_known_where_every_call_is_listed(world: World, report: Report) -> None:
    world.session("s1", start_ns=START_NS)
    for at_s, model in ((0, "m"), (30, "other"), (7_200, "m")):
        timing = Timing(start_ns=START_NS + at_s * SECOND, duration_ns=5 * SECOND)
        world.chat(QUESTION, "?", "s1", timing=timing, model=model)
    (session,) = rows(report())["sessions"]
    assert (session["idle"], session["active"]) == ([[35_000.0, 7_200_000.0]], 15_000.0)
    (session,) = rows(report(model="m"))["sessions"]
    assert session["idle"] == []


def test_the_page_loads_nothing_and_forbids_all_else(world: World, report: Report) -> None:
    play(world)
    page = report()
    reading = Reading(page)
    tags = [tag for tag, _ in reading.elements]
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(tags)
    for _, attributes in reading.elements:
        assert not {"src", "href", "srcset", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for tag, a in reading.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "url(" not in page
    assert "@import" not in page


def test_a_session_can_be_reported_on_its_own(world: World, report: Report) -> None:
    play(world)
    data = rows(report(session_id="s2"))
    assert [session["id"] for session in data["sessions"]] == ["s2"]


def test_a_filter_leaves_out_sessions_without_such_calls(world: World, report: Report) -> None:
    play(world)
    assert [session["id"] for session in rows(report(errors=True))["sessions"]] == ["s2"]
    assert [session["id"] for session in rows(report(model="gpt-5"))["sessions"]] == ["s1", ""]


def test_sums_of_money_are_exact(world: World, report: Report) -> None:
    for _ in range(3):
        world.chat(QUESTION, "x", cost=Cost(usd=Decimal("0.1"), source="t"))
    assert rows(report())["sessions"][0]["cost"] == "0.3"


def test_a_page_is_written_completely_or_not_at_all(world: World, tmp_path: Path) -> None:
    reader = open_store(world.write(tmp_path / "calls.db"))
    target = tmp_path / "report.html"
    write_report(reader, target)
    assert not target.exists(), "an empty store has no report"
    play(world)
    reader = open_store(world.write(tmp_path / "more.db"))
    with pytest.raises(OSError, match="nowhere"):
        write_report(reader, tmp_path / "nowhere" / "report.html")

    def fail(*_: int) -> None:
        raise KeyboardInterrupt

    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_report(reader, target, progress=fail)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob("*.part"))


def test_equal_errors_show_the_message_of_the_last(world: World, report: Report) -> None:
    for message in ("first", "last"):
        error = ErrorInfo(kind="rate_limit", type="rate_limit_error", status=429, message=f"{message} of them")
        world.chat(QUESTION, "?", outcome="error", error=error)
    text = Reading(report()).text
    assert "last of them" in text
    assert "first of them" not in text


def test_progress_is_reported_for_calls_and_then_of_sessions(world: World, tmp_path: Path) -> None:
    play(world)
    reader = open_store(world.write(tmp_path / "calls.db"))
    progress: list[tuple[int, int, str]] = []
    write_report(reader, tmp_path / "r.html", progress=lambda *at: progress.append(at))
    assert progress == [(1, 3, "calls"), (2, 3, "calls"), (3, 3, "calls"), (1, 2, "sessions"), (2, 2, "sessions")]


def test_of_a_huge_store_the_page_lists_the_newest_and_sums_up_all(
    world: World, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "_CALLS", 4)
    monkeypatch.setattr(gathering, "_SESSIONS", 2)
    for number in range(3):
        world.session(f"s{number}", reward=1.0)
        for _ in range(2):
            world.chat(QUESTION, "x", f"s{number}")
    page = report()
    assert [(s["id"], len(s["calls"])) for s in rows(page)["sessions"]] == [("s2", 2), ("s1", 2)]
    text = Reading(page).text
    assert "calls 6" in text
    assert "sessions 3" in text
    assert "Timelines hold the newest 4 of 6 calls. The list holds the newest 2 of 3 sessions." in text


def test_of_many_sessions_the_newest_and_those_of_listed_calls_have_a_timeline(
    world: World, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "_CALLS", 2)
    monkeypatch.setattr(gathering, "_ENTRIES", 4)
    for number in range(4):
        world.session(f"s{number}", reward=1.0)
        for index in range(2):
            step = TimestepRecord(timestep_id=f"t{number}{index}", session_id=f"s{number}", seen_ns=1, index=index)
            world.records.append(step)
            place = Place(session_id=f"s{number}", timestep_id=step.timestep_id, timestep=index)
            world.chat(QUESTION, "x", f"s{number}", place=place)
    page = report()
    listed = [(s["id"], len(s["steps"]), len(s["calls"]), s["counts"]) for s in rows(page)["sessions"]]
    assert listed == [("s3", 2, 2, [2, 2]), ("s2", 2, 0, [2, 2]), ("s1", 0, 0, [2, 2]), ("s0", 0, 0, [2, 2])]
    assert "2 older sessions are listed without their steps and events." in Reading(page).text


def test_a_session_that_began_before_the_requested_time_keeps_its_name(world: World, report: Report) -> None:
    world.session("s1", name="long")
    world.chat(QUESTION, "early", "s1")
    world.chat(QUESTION, "late", "s1")
    late = max(record.timing.start_ns for record in world.records if isinstance(record, CallRecord))
    (session,) = rows(report(since_ns=late))["sessions"]
    assert (session["name"], len(session["calls"])) == ("long", 1)


def test_the_command_writes_the_page_and_says_how_large(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(world)
    url, target = world.write(tmp_path / "calls.db"), tmp_path / "r.html"
    result = CliRunner().invoke(callspan, ["--store", url, "report", "-o", str(target), "--json"])
    assert json.loads(result.stdout) == {
        "file": str(target),
        "bytes": target.stat().st_size,
        "calls": 3,
        "sessions": 2,
    }
    monkeypatch.chdir(tmp_path)
    output = CliRunner().invoke(callspan, ["--store", url, "report", "-o", "r.html"])
    assert "3 calls, 2 sessions," in output.output
    none = CliRunner().invoke(
        callspan, ["--store", url, "report", "-o", str(tmp_path / "n.html"), "--model", "nope", "--since", "1s"]
    )
    assert none.exit_code == 1
    assert not (tmp_path / "n.html").exists()


@pytest.mark.slow
def test_ten_thousand_calls_make_less_than_five_megabytes(world: World, report: Report) -> None:
    for number in range(500):
        world.session(f"s{number}", reward=number / 500)
        for _ in range(20):
            world.chat(QUESTION, f"{number} words of an answer " * 20, f"s{number}")
    page = report()
    assert len(page.encode()) < 5_000_000
    assert len(rows(page)["sessions"]) == 500
