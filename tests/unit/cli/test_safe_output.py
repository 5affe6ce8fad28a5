"""Output: no control character reaches the terminal, and every encoding gets what it can show."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callspan import formatting
from callspan.cli import main, safe_text, screen
from callspan.cli.safe_text import ascii_json
from callspan.cli.screen import Screen
from callspan.records import ErrorInfo, EventRecord, Place, Request, TimestepRecord
from tests.scale import scaled

from .conftest import START_NS, keep, made, session


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("tab\there", "tab here"),
        ("dos\r\nline", "dos line"),
        ("\x1b[31mred", "\ufffd[31mred"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        ("null\x00", "null\ufffd"),
        ("del\x7f", "del\ufffd"),
        ("c1\x9b2J", "c1\ufffd2J"),
        ("left\u202eright", "left\ufffdright"),
        ("zero\u200bwidth", "zero\ufffdwidth"),
        ("line\u2028separator", "line\ufffdseparator"),
        ("isolate\u2066d", "isolate\ufffdd"),
        ("bom\ufeff", "bom\ufffd"),
        ("half\ud83d", "half\ufffd"),
        ("annotation\ufff9", "annotation\ufffd"),
        ("émigré 漢字 🙂", "émigré 漢字 🙂"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_control_characters_of_others_do_not_reach_the_terminal(text: str, shown: str) -> None:
    assert safe_text.clean(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two\nlines"),
        ("a\n\nb\n", "a\n\nb\n"),
        ("tab\there", "tab here"),
        ("dos\r\nline", "dos\nline"),
        ("over\rwrite", "overwrite"),
        ("bell\x07\nnext", "bell\ufffd\nnext"),
        ("\u202eevil\n", "\ufffdevil\n"),
        ("half\udc00\n", "half\ufffd\n"),
    ],
)
def test_in_paragraphs_only_line_ends_stay(text: str, shown: str) -> None:
    assert safe_text.clean_lines(text) == shown


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x202E, 0x2066])
def test_no_control_character_is_raw_in_json_and_each_comes_back(code: int) -> None:
    text = screen.json_text({"said": f"a{chr(code)}b"})
    assert chr(code) not in text
    assert json.loads(text) == {"said": f"a{chr(code)}b"}


@pytest.mark.parametrize(
    ("value", "shown", "style"),
    [
        (None, "\N{EN DASH}", ""),
        (0, "+0", ""),
        (1, "+1", "green"),
        (0.25, "+0.25", "green"),
        (-0.5, "-0.5", "red"),
        (1 / 3, "+0.3333", "green"),
        (-123456.0, "-1.235e+05", "red"),
    ],
)
def test_rewards_have_a_sign_and_a_colour(value: float | None, shown: str, style: str) -> None:
    assert formatting.reward(value) == shown
    assert screen.reward_style(value) == style


def test_a_paragraph_is_wrapped_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().paragraph("word " * 40 + "\x1b[2J")
    out = capsys.readouterr().out
    assert out.count("word") == 40
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("expected", ["[red]not red[/red]", ":smile:", "http://example.test 12345", "[link=x]y[/link]"])
def test_nothing_recorded_is_read_as_markup(expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown: Any = Screen()
    shown.print(expected)
    shown.line(expected)
    assert capsys.readouterr().out == f"{expected}\n{expected}\n"


ODD = "é → 𝄞 \N{EN DASH} 日本語 \udcff"

NAME = "é→𝄞日"


@pytest.fixture
def odd_store(tmp_path: Path) -> str:
    """A store in which everything that is shown has characters that few encodings have."""
    place = Place(session_id="s-1", session_name=NAME, timestep_id="t", timestep=0)
    failed = ErrorInfo(kind="bad_input", type=NAME, message=NAME)
    return keep(
        f"sqlite:///{tmp_path / 'callspan.db'}",
        session("s-1", name=NAME, start_ns=START_NS, metadata={NAME: NAME}),
        TimestepRecord(timestep_id="t", session_id="s-1", seen_ns=1, index=0, start_ns=START_NS, name=NAME),
        EventRecord(event_id="e", session_id="s-1", timestep_id="t", event_type="tool", time_ns=START_NS, name=NAME),
        made("c-1", place=place, request=Request(model=NAME), outcome="error", error=failed),
    )


def written(encoding: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process, on streams of this encoding."""
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["callspan", *arguments])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, write_through=True))
    with pytest.raises(SystemExit) as ended:
        main()
    # What a misconfigured locale takes for ASCII click takes for UTF-8.
    stderr = err.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
    return int(ended.value.code or 0), out.getvalue().decode(encoding), stderr


@pytest.mark.parametrize("encoding", scaled(["cp1252", "euc_jp"], ["cp1252", "euc_jp", "ascii", "latin-1", "utf-8"]))
def test_every_sub_command_ends_as_with_utf_8(
    encoding: str, odd_store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = {
        "sessions": 0, "calls": 0, "show s-1": 0, "show c-1": 0, "stats": 0, "stats --by session": 0,
        "calls --rewards": 1,
        "export openai --dry-run": 1, "report": 0, "reprice --prices prices.json --dry-run": 0, "ship": 0,
        "delete --older-than 2000-01-01 --yes": 0, "--help": 0, "run --help": 0, f"show {ODD.split()[2]}": 1,
        f"calls --session {NAME}": 1, f"nothing{NAME}": 2, f"report -o no-such-directory/{NAME}": 1, "replay c-1": 1,
        f"run {NAME}.py": 2,
    }  # fmt: skip
    if encoding == "latin-1":
        expected["doctor"] = 0
    (tmp_path / "prices.json").write_text(json.dumps({"version": "v9", "models": {NAME: {"input": "3"}}}))
    for command, code in expected.items():
        found, out, err = written(encoding, monkeypatch, "--store", odd_store, *command.split())
        assert found == code, (command, out, err)
        assert "Traceback" not in out + err
        assert "Error" in err or code != 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "euc_jp"])
def test_json_is_the_same_in_every_encoding(encoding: str, odd_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["calls"], ["sessions"], ["show", "s-1"]):
        _, out, _ = written(encoding, monkeypatch, "--store", odd_store, "--json", *command)
        _, expected, _ = written("utf-8", monkeypatch, "--store", odd_store, "--json", *command)
        assert out.isascii()
        assert json.loads(out) == json.loads(expected)


def test_a_tree_is_drawn_in_ascii_with_its_columns_in_line(odd_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain, _ = written("ascii", monkeypatch, "--store", odd_store, "show", "s-1")
    _, drawn, _ = written("utf-8", monkeypatch, "--store", odd_store, "show", "s-1")
    assert "`-- step 0 ?>??" in plain, "what replaces a character is as wide"
    assert len(plain.splitlines()) == len(drawn.splitlines())


def test_json_beyond_the_first_plane_is_a_pair_of_escapes() -> None:
    assert ascii_json('"é𝄞"') == '"\\u00e9\\ud834\\udd1e"'
    assert json.loads(ascii_json('"é𝄞"')) == "é𝄞"


def test_a_process_with_such_a_stdout(odd_store: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "callspan.cli", "--store", odd_store, "show", "s-1"],
        env=environment, cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "step 0 é>??" in done.stdout.decode("cp1252")
