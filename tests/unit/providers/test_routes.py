"""Routes: every pattern is found by a path made from it, and by nothing else."""

from __future__ import annotations

from callspan.providers.routes import PATHS


def test_no_pattern_is_there_twice() -> None:
    assert len({path.pattern for path in PATHS}) == len(PATHS)
