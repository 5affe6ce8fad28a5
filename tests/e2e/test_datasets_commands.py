"""Exports of the demo's store: every format, the report, and lists by reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callspan.datasets import FORMATS
from tests.datasets.formats import check_fine_tuning, check_preference, check_rollout, check_trajectory

from .conftest import Demo, in_its_own

CHECKS = {
    "openai": check_fine_tuning,
    "openai-session": check_fine_tuning,
    "preferences": check_preference,
    "atif": check_trajectory,
    "rollouts": check_rollout,
}


def exported(ask: Any, format_name: str, target: Path, *options: str) -> list[Any]:
    """The rows of an export of the demo, read back by the independent reader of the format."""
    answer = ask("export", format_name, "-o", str(target), *options)
    assert answer.code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    for row in rows:
        CHECKS[format_name](row)
    noun = "row" if len(rows) == 1 else "rows"
    assert f"{len(rows)} {noun} written to" in answer.out
    return rows


def test_the_calls_of_the_demo_are_fine_tuning_rows(ask: Any, tmp_path: Path) -> None:
    rows = exported(ask, "openai", tmp_path / "out.jsonl", "--success")
    assert len(rows) == 34
    assert {tuple(tool["function"]["name"] for tool in row.get("tools", ())) for row in rows} == {
        ("look", "move"), ("look",), ()
    }  # fmt: skip


def test_the_rollouts_of_the_demo_hold_token_ids(ask: Any, tmp_path: Path) -> None:
    rows = exported(ask, "rollouts", tmp_path / "out.jsonl")
    assert sorted((row["info"]["rollout"], row["reward"], len(row["steps"])) for row in rows) == [
        (0, -1.05, 1),
        (1, 1.4, 2),
    ]
    first, second = (row["steps"][0]["tokens"] for row in rows)
    assert first["prompt_ids"] == second["prompt_ids"]
    assert first["completion_ids"] != second["completion_ids"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export", "openai"], 2),
        (["export", "csv", "--dry-run"], 2),
        (["export", "openai", "--dry-run", "--meta", "seed"], 2),
        (["export", "openai", "--dry-run", "--max-cost", "much"], 2),
        (["export", "openai", "--dry-run", "--min-reward", "99"], 1),
        (["export", "rollouts", "--dry-run", "--model", "gpt-5-mini"], 1),
        (["sessions", "--min-reward", "99"], 1),
        (["report", "-o", "/nowhere/at/all.html"], 1),
    ],
)
def test_exit_codes_distinguish_wrong_usage_from_no_results(ask: Any, arguments: list[str], code: int) -> None:
    assert ask(*arguments).code == code


def test_help_names_every_format_with_examples(ask: Any) -> None:
    output = ask("export", "--help").out
    assert all(name in output for name in FORMATS)
    assert "Examples:" in output


def test_the_report_of_the_demo_is_one_file(demo: Demo) -> None:
    answer = in_its_own("report", cwd=demo.directory)
    assert answer.code == 0, answer.err
    page = (demo.directory / "report.html").read_text()
    (demo.directory / "report.html").unlink()
    assert "gridworld" in page
    assert "default-src 'none'" in page
