"""Tests of this folder are skipped if the recorded exchanges are not available."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# At the end: folders of tests have names of the standard library.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from wire import corpus


@pytest.fixture(scope="session")
def exchanges() -> tuple[corpus.Exchange, ...]:
    """All recorded exchanges, or a skip that says which variable to set."""
    reason = corpus.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    return corpus.load()
