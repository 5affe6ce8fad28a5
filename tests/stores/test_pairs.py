"""Preference pairs of an agent with tools, from every store."""

from __future__ import annotations

from pathlib import Path

from tests.datasets.test_preferences import check_pairs_of_rollouts


def test_a_pair_of_tool_agents_stands_at_the_first_real_difference(url: str, tmp_path: Path) -> None:
    check_pairs_of_rollouts(url, tmp_path, 6)
