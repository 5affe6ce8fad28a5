"""Closing stores, which may take seconds, blocks no other caller."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import callspan
from callspan import wiring
from callspan.fail_open import forget_failures
from callspan.sdk_profiles import SDKS
from callspan.wiring import WIRING

from .conftest import made

CLOSING_S = 0.8


def replace() -> None:
    callspan.instrument(content="off")


def undo() -> None:
    callspan.uninstrument()


def undo_each() -> None:
    for sdk in SDKS:
        WIRING.remove_sdk(sdk)


def restore() -> None:
    WIRING.restore(None)


def add() -> None:
    WIRING.add_stores("unix:///nobody/there.sock", "")


@pytest.mark.parametrize("change", [replace, undo, undo_each, restore, add])
def test_no_thread_waits_for_the_stores_that_another_thread_closes(
    change: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "_CLOSE_TIMEOUT_S", CLOSING_S)
    # What waits for a locked file is not delivered in time.
    other = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db")
    WIRING.write(made())
    closes = threading.Thread(target=change)
    began = time.monotonic()
    closes.start()
    time.sleep(0.2)
    assert closes.is_alive()
    callspan.instrument(content="metadata")
    took = time.monotonic() - began
    closes.join()
    assert time.monotonic() - began > CLOSING_S
    assert took < CLOSING_S
    other.close()
    for thread in threading.enumerate():
        if str(tmp_path) in thread.name:
            thread.join(10)  # it may log that the file was locked
            assert not thread.is_alive()
    forget_failures()
