"""The public surface: sorted, complete, lazy; importing it does no work."""

from __future__ import annotations

import subprocess
import sys

import pytest

import callspan
import callspan.testing


@pytest.mark.parametrize("module", [callspan, callspan.testing])
def test_the_public_names_are_sorted_and_there(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        assert getattr(module, name) is not None
        assert getattr(module, name).__doc__, f"{name} has no docstring"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        callspan.nothing  # noqa: B018


IMPORT = """
import sys, threading
before = set(sys.modules)
import callspan
loaded = set(sys.modules) - before
assert threading.active_count() == 1
heavy = {"openai", "anthropic", "wrapt", "msgspec", "opentelemetry", "sqlite3", "click", "rich"} & loaded
assert not heavy, heavy
import callspan.wiring
sdks = {"openai", "anthropic", "sqlite3", "psycopg", "click", "rich"} & set(sys.modules)
assert not sdks, sdks
assert threading.active_count() == 1
"""


def test_importing_loads_no_sdk_and_starts_no_thread() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


INSTRUMENT = """
import os, sys, threading
import callspan
handle = callspan.instrument(stores="sqlite:///calls.db")
assert threading.active_count() == 1, threading.enumerate()
assert os.listdir(".") == []
assert "openai" not in sys.modules and "anthropic" not in sys.modules
handle.uninstrument()
"""


def test_instrumenting_opens_no_file_and_starts_no_thread(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSTRUMENT], capture_output=True, text=True, timeout=60, check=False, cwd=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
