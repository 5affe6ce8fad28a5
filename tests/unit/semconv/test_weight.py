"""The size of a call's span as OTLP in bytes, for the calls that `make bench-peers` compares."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))


import weights


@pytest.mark.parametrize(
    ("content", "most"), [("full", {weights.PLAIN: 9_700, weights.AGENT: 28_250}), ("off", {weights.PLAIN: 1_750})]
)
def test_a_span_has_no_redundant_attributes(content: str, most: dict[str, int]) -> None:
    """A little above what it is: an attribute more shows, and content that stands there once more shows at once."""
    weighed = weights.ours("openai", content)
    for name, bar in most.items():
        assert 0.9 * bar < weighed[name] <= bar
