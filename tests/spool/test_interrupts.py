"""Appends interrupted by a signal handler: its exception reaches the caller, and every record is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from callspan.spool import segment as segments
from callspan.spool.spool import Spool

from .rig import SqliteSink, record, rows

NUMBER = signal.SIGUSR1


class TimeIsUpError(TimeoutError):
    """What a time limit raises: an `OSError`, of all things."""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


@pytest.fixture(params=[KeyboardInterrupt, SystemExit, TimeIsUpError])
def raised(request: pytest.FixtureRequest) -> type[BaseException]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise request.param

    signal.signal(NUMBER, handler)
    kind: type[BaseException] = request.param
    return kind


class Once:
    """Calls a function of the operating system with a signal before or after it, the first time."""

    def __init__(self, function: Callable[..., Any], *, after: bool) -> None:
        self._function = function
        self._after = after
        self._armed = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        armed, self._armed = self._armed, False
        if armed and not self._after:
            signal.raise_signal(NUMBER)
        result = self._function(*args, **kwargs)
        if armed and self._after:
            signal.raise_signal(NUMBER)
        return result


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", ["open", "write", "fstat"])
def test_an_interrupted_append_reaches_the_caller_and_loses_nothing(
    name: str, after: bool, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", lambda: [SqliteSink(tmp_path / "a.db")])
    if name == "write":
        assert spool.append(record("k0"))
    once = Once(getattr(os, name), after=after)
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, name, once)
        with pytest.raises(raised):
            spool.append(record("k1"))
    wanted = {"k1", *(f"n{number}" for number in range(50))} | ({"k0"} if name == "write" else set())
    for number in range(50):
        assert spool.append(record(f"n{number}"))
    assert spool.flush(10)
    assert set(rows(tmp_path / "a.db")) == wanted
    assert spool.drops() == {"memory": 0}
    assert spool.counters()["in_memory"] == 0
    assert spool.close(10)


def test_a_flush_keeps_what_an_interrupted_append_has_left(
    raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", lambda: [SqliteSink(tmp_path / "a.db")])
    assert spool.append(record("k0"))
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "write", Once(os.write, after=True))
        with pytest.raises(raised):
            spool.append(record("k1"))
    assert spool.flush(10)
    assert rows(tmp_path / "a.db") == ["k0", "k1"]
    assert spool.close(10)


def test_a_record_whose_writing_is_interrupted_every_time_is_given_up_and_counted(
    raised: type[BaseException], tmp_path: Path
) -> None:
    """Or nothing could ever be appended again."""

    def slim() -> bytes:
        signal.raise_signal(NUMBER)
        return b""

    spool = Spool(tmp_path / "spool", lambda: [SqliteSink(tmp_path / "a.db")], max_bytes=40_000)
    interrupted = 0
    for number in range(60):
        try:
            # Each third one is above the limit on its own, however much was delivered before.
            spool.append(record(f"k{number}", 1000 if number % 3 else 38_000), slim)
        except raised:
            interrupted += 1
    while True:
        try:
            spool.flush(10)
            break
        except raised:
            interrupted += 1
    counters = spool.counters()
    assert interrupted
    assert counters["appended"] + counters["dropped.error"] == 60
    assert spool.close(10)


def test_an_append_within_an_interrupted_append_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", lambda: [SqliteSink(tmp_path / "a.db")])
    assert spool.append(record("k0"))

    def handler(number: int, frame: FrameType | None) -> None:
        assert spool.append(record("nested"))
        raise TimeIsUpError

    signal.signal(NUMBER, handler)
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "write", Once(os.write, after=False))
        with pytest.raises(TimeIsUpError):
            spool.append(record("k1"))
    assert spool.flush(10)
    assert sorted(rows(tmp_path / "a.db")) == ["k0", "k1", "nested"]
    assert spool.close(10)
