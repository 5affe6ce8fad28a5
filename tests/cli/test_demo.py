"""The demo: the main job end to end, read back by other processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Answer, in_its_own
from tests.support.commands import ask as in_process
from tests.support.programs import VOICE_CALLS, Demo

Ask = Callable[..., Answer]


def sessions(ask: Ask) -> list[dict[str, Any]]:
    """The sessions with all that is in them, oldest first; without those of the trial."""
    listed = [row for row in ask("sessions", "--json").json if row["group_id"] != "trial"]
    return [ask("show", row["session_id"], "--json").json for row in reversed(listed)]


def calls_of(session: dict[str, Any]) -> list[dict[str, Any]]:
    return [call for step in session["steps"] for call in step["calls"]]


def test_episodes_played_at_the_same_time_do_not_mix(ask: Ask) -> None:
    for session in sessions(ask):
        assert {call["trace_id"] for call in calls_of(session)} == {session["trace_id"]}
        assert {call["session_id"] for call in calls_of(session)} == {session["session_id"]}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo prints, in a directory where nothing is yet."""
    answer = in_its_own("demo", cwd=tmp_path_factory.mktemp("page"))
    assert (answer.code, answer.err) == (0, "")
    return answer.out


def test_the_page_shows_the_last_session_and_three_commands_in_40_lines_without_colours(page: str) -> None:
    for part in (
        "$ callspan show last", "gridworld  success  +1.3", "step 0", "gpt-5-mini", "1 retry", "tool look",
        "sqlite:///callspan.db", "callspan send --otlp http://localhost:4318 ",
    ):  # fmt: skip
        assert part in page
    assert len(page.splitlines()) <= 40
    assert max(map(len, page.splitlines())) <= 100
    assert "\x1b" not in page
    commands = [line.split("callspan ", 1)[1].split("  ")[0] for line in page.splitlines()[-3:]]
    assert commands == ["calls --failed", "compare meta:prompt_version=1 =2", "view --open"]


def test_one_comparison_tells_the_prompts_apart(ask: Ask) -> None:
    compared = ask("compare", "meta:prompt_version=1", "=2").out
    (success,) = [line for line in compared.splitlines() if line.startswith("success")]
    (reward,) = [line for line in compared.splitlines() if line.startswith("reward")]
    assert " ".join(success.split()) == "success 33 % 100 % +67 points (+17 to +100) 6 tasks"
    assert " ".join(reward.split()) == "reward -0.2583 +1.383 +1.642 (+0.4417 to +2.442) 6 tasks"
    assert "too few to tell" not in compared


def test_a_file_of_another_application_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("callspan.db")
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = Path("callspan.db").read_bytes()
    answer = in_process("demo")
    assert answer.code == 1
    assert "another application" in answer.err
    assert "--store" in answer.err
    assert Path("callspan.db").read_bytes() == before


def test_live_without_keys_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = in_process("demo", "--live")
    assert answer.code == 1
    assert "OPENAI_API_KEY" in answer.err
    assert not Path("callspan.db").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_the_last_agent_is_asked_by_voice_where_websockets_is_installed(
    installed: bool, demo: Demo, tmp_path: Path
) -> None:
    store = demo.store
    if not installed:
        old = tmp_path / "websockets-14.0.dist-info"
        old.mkdir()
        (old / "METADATA").write_text("Metadata-Version: 2.1\nName: websockets\nVersion: 14.0\n")
        assert in_its_own("demo", "--json", cwd=tmp_path).code == 0
        store = f"sqlite:///{tmp_path / 'callspan.db'}"
    (session,) = [
        row for row in in_process("--store", store, "sessions", "--json").json if row["metadata"]["seed"] == 7
    ]
    calls = in_process("--store", store, "calls", "--session", session["session_id"], "--json").json
    spoken = sorted(call["api"] for call in calls if "realtime" in call["model"] or call["api"] == "transcriptions")
    assert spoken == (["realtime", "transcriptions"] if installed and VOICE_CALLS else [])
