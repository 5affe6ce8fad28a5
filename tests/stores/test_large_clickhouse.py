"""A ClickHouse of a million calls, in the embedded engine: lists, look-ups and sums keep to their bars of CPU.

Where a bar is missed by ten times, the engine reads all rows where an index should have skipped them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace
from tests.support.records import SECOND
from tests.support.scale import slowness

from callspan import open_store
from callspan.stores import CallFilter, Reader

pytestmark = [pytest.mark.timeout(1800), pytest.mark.clickhouse]
CALLS: Final = 1_000_000
DAY_NS: Final = 24 * 3600 * SECOND


@pytest.fixture(scope="module")
def reader(once_per_run: Callable[[str, Callable[[Path], object]], Path]) -> Iterator[Reader]:
    pytest.importorskip("chdb")
    # In a process of its own: the engine keeps the memory that an insert took.
    program = f"""import sys; from pathlib import Path; from tests.support.large_stores import make_clickhouse
make_clickhouse(Path(sys.argv[1]), {CALLS})"""
    directory = once_per_run(
        "large-clickhouse", lambda place: subprocess.run([sys.executable, "-c", program, str(place)], check=True)
    )
    with closing(open_store(f"clickhouse+chdb://{directory}")) as reader:
        yield reader


PAGE: Final = CallFilter(limit=50, content="none")
Answer = Callable[[Reader, "Newest"], Any]


class Newest:
    """The newest sessions and calls of a store, and a time in which they are."""

    def __init__(self, reader: Reader) -> None:
        self.session_ids = [*reader.listed_session_ids(PAGE)]
        self.calls = [*reader.calls(PAGE)]
        self.call_ids = [call.call_id for call in self.calls]
        self.day = replace(PAGE, since_ns=self.calls[0].timing.start_ns - DAY_NS)
        self.last = replace(PAGE, since_ns=self.calls[-1].timing.start_ns)


@pytest.fixture(scope="module")
def newest(reader: Reader) -> Newest:
    newest = Newest(reader)
    assert reader.count_calls(PAGE) == CALLS
    assert len(newest.session_ids) == len(newest.calls) == 50
    assert reader.count_calls(newest.day) == DAY_NS // SECOND + 1
    return newest


ANSWERS: Final[dict[str, tuple[float, Answer]]] = {
    "sessions": (0.2, lambda reader, newest: reader.listed_session_ids(newest.day)),
    "sessions of any time": (0.25, lambda reader, newest: reader.listed_session_ids(PAGE)),
    "sessions with their sums": (0.8, lambda reader, newest: reader.sessions(newest.day)),
    "dear sessions": (0.6, lambda reader, newest: reader.listed_session_ids(replace(newest.day, sort="cost_usd"))),
    "judged sessions": (0.8, lambda reader, newest: reader.listed_session_ids(_judged(newest, 0.1))),
    "sessions with a text": (1.5, lambda reader, newest: reader.listed_session_ids(replace(newest.day, text="grid"))),
    "unended sessions": (
        1.2,
        lambda reader, newest: [[*reader.listed_session_ids(replace(PAGE, session_outcome="in_progress"))]],
    ),
    "calls": (0.1, lambda reader, newest: reader.calls(newest.day)),
    "calls of any time": (0.2, lambda reader, newest: reader.calls(PAGE)),
    "failed calls": (0.1, lambda reader, newest: reader.calls(replace(newest.day, errors=True))),
    "dear calls": (0.15, lambda reader, newest: reader.calls(replace(newest.day, sort="cost_usd"))),
    "calls with a text": (1.0, lambda reader, newest: reader.calls(replace(newest.day, text="of room"))),
    "judged calls": (3.5, lambda reader, newest: reader.calls(_judged(newest, 0.1))),
    "calls by their score": (2.0, lambda reader, newest: reader.calls(replace(_judged(newest), sort="score"))),
    "call": (0.12, lambda reader, newest: [reader.call(newest.call_ids[7])]),
    "session": (0.6, lambda reader, newest: [reader.session(newest.session_ids[7])]),
    "entries of a session": (1.0, lambda reader, newest: reader.entries(newest.session_ids[7])),
    "timesteps of a session": (1.5, lambda reader, newest: reader.timesteps(newest.session_ids[7])),
    "rewards of a call": (0.3, lambda reader, newest: reader.rewards(newest.calls[10])),
    "scores of calls": (0.6, lambda reader, newest: reader.call_scores([*reader.ids(newest.last)], ["judge"])),
    "labels of calls": (0.8, lambda reader, newest: [reader.call_labels([*reader.ids(newest.last)], ["judge"])]),
    "reward curves": (1.5, lambda reader, newest: reader.reward_curves(newest.session_ids)),
    "sums": (0.4, lambda reader, newest: reader.summary(())),
    "sums by model": (0.5, lambda reader, newest: reader.summary("model")),
    "sums by model of a day": (0.12, lambda reader, newest: reader.summary("model", newest.day)),
}
"""Each with the seconds of CPU that it may take, two to three times what it took."""


def _judged(newest: Newest, least: float | None = None) -> CallFilter:
    return replace(newest.day, objectives=("judge",), min_score=least)


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_given_in_time(name: str, reader: Reader, newest: Newest) -> None:
    at_most_s, answer = ANSWERS[name]
    times = []
    for _ in range(2):
        began = time.process_time()
        rows = [*answer(reader, newest)]
        times.append(time.process_time() - began)
    assert rows
    assert min(times) < at_most_s * slowness(), times
