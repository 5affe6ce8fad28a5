"""The public surface: sorted, complete, lazy; importing it does no work."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import callspan
import callspan.testing
from callspan import records, stores
from callspan.settings import SettingArguments
from tests.support.processes import ran


@pytest.mark.parametrize("module", [callspan, callspan.testing, records, stores])
def test_the_public_names_exist_and_are_documented(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{name} has no docstring"


def test_every_setting_is_an_argument_that_the_signature_and_the_documentation_show() -> None:
    shown = inspect.signature(callspan.instrument).parameters
    for name in callspan.Settings.__struct_fields__:
        assert shown[name].default is None, name
        described = re.search(
            rf"^ +{name}: (.*?)(?=^ {{4,8}}\w+: |^ *$)", callspan.Settings.__doc__ or "", re.DOTALL | re.MULTILINE
        )
        assert described, f"{name} has no sentence"
        assert "Default: " in described[1], f"{name} has no default"
    assert set(SettingArguments.__annotations__) == set(callspan.Settings.__struct_fields__)


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


def test_on_windows_the_import_says_what_is_supported(tmp_path: Path) -> None:
    done = ran("-c", "import sys; sys.platform = 'win32'; import callspan", cwd=tmp_path, code=1)
    assert "ImportError: callspan runs on Linux and macOS; it does not support Windows." in done.stderr


INSTRUMENT = """
import os, sys, threading
import callspan
handle = callspan.instrument(stores="sqlite:///calls.db")
assert threading.active_count() == 1, threading.enumerate()
assert os.listdir(".") == []
assert "openai" not in sys.modules and "anthropic" not in sys.modules
handle.uninstrument()
"""


@pytest.mark.parametrize("program", [IMPORT, INSTRUMENT], ids=["importing", "instrumenting"])
def test_neither_importing_nor_instrumenting_loads_an_sdk_opens_a_file_or_starts_a_thread(
    program: str, tmp_path: Path
) -> None:
    ran("-c", program, cwd=tmp_path)
