"""What sub-commands share: error messages, exit codes, and progress bars only on terminals."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from callspan.cli import stats
from callspan.cli.commands import callspan
from callspan.cli.progress import progress

from .conftest import ask


class Terminal(io.StringIO):
    """A stream somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141)])
def test_exit_codes_by_exception(store: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(stats.stats_command, "callback", fail)
    result = CliRunner().invoke(callspan, ["--store", store, "stats"])
    assert (result.exit_code, result.output) == (code, "")


def test_an_invalid_store_is_wrong_usage_and_names_the_option() -> None:
    answer = ask("--store", "teapot://x", "calls")
    assert answer.code == 2
    assert "--store, CALLSPAN_STORES: unknown kind of store 'teapot://x'" in answer.err


def test_a_store_that_cannot_be_reached_is_named_in_few_words() -> None:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install 'callspan[postgres]'")
    answer = ask("--store", "postgresql://nobody:secret@127.0.0.1:1/x", "calls")
    assert answer.code == 1
    assert answer.err.startswith("Error: postgresql://127.0.0.1:1/x cannot be opened: ")
    assert len(answer.err.splitlines()) == 1
    assert "secret" not in answer.err


@pytest.mark.parametrize("json", [False, True])
def test_a_bar_is_for_terminals_and_not_beside_json(monkeypatch: pytest.MonkeyPatch, json: bool) -> None:
    watched = Terminal()
    monkeypatch.setattr(sys, "stderr", watched)
    with progress("calls", shown=not json) as tell:
        tell(1)
        tell(2, 4, "sessions")
    assert ("2 of 4" in watched.getvalue()) is not json


def test_a_file_shows_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with progress("calls", shown=True) as tell:
        tell(1, 2)
    assert file.getvalue() == ""


def test_every_sub_command_has_examples(tmp_path: Path) -> None:
    for name in callspan.commands or callspan.list_commands(None):  # type: ignore[arg-type]
        assert "Examples:" in ask(name, "--help").out, name
