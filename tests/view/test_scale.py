"""Pages of large sessions and stores keep to their bars of CPU, and come in parts."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.support.large_file import make_sessions
from tests.support.scale import slowness
from tests.view.conftest import Page, Show

CALLS = 1_000_000
LINES = ("", "user:user-7", "failed", "min-cost:0.0001", "sort:cost", "sort:duration", "sort:tokens")
PAGES_AND_BARS = (
    ("now", {}, 1.0),
    *((page, {"q": line}, 1.5) for page in ("sessions", "calls") for line in LINES),
    ("charts", {"q": ""}, 5.0),
    ("table", {"q": "", "by": "user"}, 5.0),
    ("table", {"q": "", "by": "model"}, 5.0),
    ("scores", {"q": ""}, 5.0),
)
"""Each with the seconds of CPU that it may take with so many calls."""


def read(page: Page, name: str, query: dict[str, Any], at_most_s: float) -> Any:
    """The JSON of a page that takes no more CPU than this."""
    began = time.process_time()
    answer = page.ask(f"/api/{name}?{urlencode(query)}")
    took_s = time.process_time() - began
    print(f"| {name} {query} | {took_s:.2f} s CPU, {len(answer.body):,} bytes |")
    assert answer.status == 200, answer.body
    assert took_s < at_most_s * slowness(), (name, query)
    return answer.json


@pytest.mark.timeout(1800)
def test_the_pages_of_a_million_calls(tmp_path: Path, show: Show) -> None:
    make_sessions(tmp_path / "calls.db", CALLS)
    page = show(f"sqlite:///{tmp_path}/calls.db")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, query, at_most_s in PAGES_AND_BARS:
        following = read(page, name, query, at_most_s).get("next")
        if following is not None:
            read(page, name, {**query, "after": following}, at_most_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000
