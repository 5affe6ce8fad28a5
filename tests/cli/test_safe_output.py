"""Output: no control character reaches the terminal, and every encoding gets what it can show."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from callspan import formatting
from callspan.cli import main
from callspan.cli.safe_text import clean, clean_lines
from callspan.records import ErrorInfo, EventRecord, Place, Request, TimestepRecord
from tests.support.records import START_NS, keep, made, session
from tests.support.scale import scaled

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
    """Exit code, stdout and stderr of the command in this process, on streams of this encoding; JSON is in UTF-8."""
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["callspan", *arguments])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding, write_through=True))
    with pytest.raises(SystemExit) as ended:
        main()
    # What a misconfigured locale takes for ASCII click takes for UTF-8.
    stderr = err.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
    return int(ended.value.code or 0), out.getvalue().decode("utf-8" if "--json" in arguments else encoding), stderr


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
        assert "error: " in err.lower() or code != 2


def test_lines_are_kept_where_a_text_may_have_them() -> None:
    assert clean("one\ntwo\tthree\r\n") == "one two three "
    assert clean_lines("one\ntwo\x1b[0m") == "one\ntwo\N{REPLACEMENT CHARACTER}[0m"


def test_lone_surrogates_can_be_printed() -> None:
    clean("\ud800").encode()
    formatting.json_text({"a": "\ud800\x9b"}).encode()
