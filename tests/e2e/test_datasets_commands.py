"""What people make of the demo's store: every format, the report, and lists by reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callspan.datasets import FORMATS
from tests.datasets.formats import check_fine_tuning, check_trajectory

from .conftest import Demo, in_its_own

pytestmark = pytest.mark.slow

CHECKS = {"openai": check_fine_tuning, "openai-session": check_fine_tuning, "atif": check_trajectory}


@pytest.mark.parametrize("format_name", CHECKS)
def test_a_session_of_the_demo_exports_and_reads_back(ask: Any, tmp_path: Path, format_name: str) -> None:
    target = tmp_path / "out.jsonl"
    answer = ask("export", format_name, "-o", str(target), "--success")
    assert answer.code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert rows
    for row in rows:
        CHECKS[format_name](row)
    assert f"{len(rows)} rows written to" in answer.out


def test_the_demo_exports_as_a_table(ask: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'callspan[datasets]'")
    told = ask("export", "parquet", "-o", str(tmp_path / "calls.parquet"), "--json").json
    assert parquet.read_table(tmp_path / "calls.parquet").num_rows == told["rows"] > 0


def test_a_dry_run_tells_everything_and_writes_nothing(ask: Any, demo: Demo) -> None:
    before = sorted(demo.directory.iterdir())
    told = ask("export", "openai-session", "--dry-run", "--min-reward", "0", "--json").json
    assert told["file"] is None
    assert told["rows"] == 3
    assert told["reward"]["min"] > 0
    assert told["left_out"]["session: reward too low or unknown"] == 1
    assert sorted(demo.directory.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["export", "openai"], 2),
        (["export", "csv", "--dry-run"], 2),
        (["export", "openai", "--dry-run", "--tag", "seed"], 2),
        (["export", "openai", "--dry-run", "--max-cost", "much"], 2),
        (["export", "openai", "--dry-run", "--min-reward", "99"], 1),
        (["export", "rollouts", "--dry-run"], 1),
        (["sessions", "--min-reward", "99"], 1),
        (["report", "-o", "/nowhere/at/all.html"], 1),
    ],
)
def test_exit_codes_tell_wrong_usage_from_nothing_found(ask: Any, arguments: list[str], code: int) -> None:
    assert ask(*arguments).code == code


def test_help_names_every_format_with_examples(ask: Any) -> None:
    told = ask("export", "--help").out
    assert all(name in told for name in FORMATS)
    assert "Examples:" in told


def test_sessions_are_found_by_reward_and_outcome_and_paged(ask: Any) -> None:
    every = ask("sessions", "--json").json
    good = ask("sessions", "--json", "--min-reward", "0").json
    assert [row for row in every if row["reward"] is not None and row["reward"] >= 0] == good
    assert ask("sessions", "--json", "--outcome", "failure").json == [r for r in every if r["outcome"] == "failure"]
    assert ask("sessions", "--json", "--limit", "1", "--offset", "1").json == every[1:2]
    assert "more: --limit, --offset" in ask("sessions", "--limit", "1").out
    assert "more:" not in ask("sessions").out


def test_the_report_of_the_demo_is_one_file(demo: Demo) -> None:
    answer = in_its_own("report", cwd=demo.directory)
    assert answer.code == 0, answer.err
    page = (demo.directory / "report.html").read_text()
    (demo.directory / "report.html").unlink()
    assert "gridworld" in page
    assert "default-src 'none'" in page
