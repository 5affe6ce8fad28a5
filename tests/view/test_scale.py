"""Pages of large sessions keep to their bars of CPU."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import large_store
import large_view
from callspan.view.server import PAGES

STEPS = 100_000


@pytest.mark.slow
def test_an_episode_of_100000_steps_is_read_in_pages(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    large_store.deliver(path, large_store.episode(STEPS))
    source = large_view.source_of(path)
    began = time.process_time()
    large_view.cost_of(source, PAGES["session"], {"id": large_store.EPISODE})
    assert time.process_time() - began < 1.0
