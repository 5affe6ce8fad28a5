"""`callspan run`, the options before a sub-command, exit codes, and what is gone."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from tests.support.commands import Answer, ask, callspan, in_its_own


def without_click(place: Path, *arguments: str) -> Answer:
    """The command in a process that can import neither click nor rich, nor can those it starts."""
    hidden = place / "hidden"
    hidden.mkdir()
    for name in ("click", "rich"):
        (hidden / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})")
    return in_its_own(*arguments, cwd=place, env={"PYTHONPATH": str(hidden)})


def test_an_application_runs_without_click(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os, sys; print(os.environ['CALLSPAN_STORES'], sys.argv[1:]); sys.exit(7)")
    answer = without_click(tmp_path, "run", "--json", "--store", "calls.jsonl", "--", "app.py", "--store", "--", "-x")
    assert answer == (
        7,
        f"jsonl:///{tmp_path}/calls.jsonl ['--store', '--', '-x']\n",
        "callspan: recording to calls.jsonl; to see it: callspan --store calls.jsonl calls;"
        " if nothing is there: callspan --store calls.jsonl doctor\n",
    )


@pytest.mark.parametrize(
    "arguments", [[], ["calls"], ["--help"], ["--json", "show", "run"], ["runs"], ["--stor", "run"]]
)
def test_what_needs_click_says_what_to_install(tmp_path: Path, arguments: list[str]) -> None:
    answer = without_click(tmp_path, *arguments)
    assert (answer.code, answer.out) == (1, "")
    expected = 'The callspan command needs click: pip install "callspan[cli]" (`callspan run` works without it)\n'
    assert answer.err == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Missing argument 'APP'."),
        (["--stor", "x", "app.py"], "unrecognized arguments: --stor"),
        (["-mx", "app.py"], "-m: ignored explicit argument 'x'"),
        (["--store"], "--store: expected one argument"),
        (["--store", "teapot://x", "app.py"], "--store, CALLSPAN_STORES: unknown kind of store 'teapot://x'"),
        (["nothing.py"], "nothing.py: there is no such file or command."),
        (["no\x00thing"], "there is no such file or command."),
        ([""], "there is no such file or command."),
    ],
)
def test_wrong_usage_of_run_is_exit_code_2(arguments: list[str], expected: str) -> None:
    answer = ask("run", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: callspan run [OPTIONS] APP [ARGS]...\n")
    assert expected in answer.err
    assert "\x00" not in answer.err


def test_the_help_of_each_sub_command_fits_a_screen_and_begins_with_two_examples_that_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.json").touch()
    context = click.Context(callspan)
    for name in callspan.list_commands(context):
        command = callspan.get_command(context, name)
        assert command is not None
        lines = ask(name, "--help").out.splitlines()
        assert len(lines) <= 25, name
        if name == "run":  # parses its own arguments
            continue
        examples = [shlex.split(line.split("   ")[0]) for line in lines[2:4]]
        for words in (example[example.index(name) + 1 :] for example in examples):
            command.make_context(name, words, resilient_parsing=False)
