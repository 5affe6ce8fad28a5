"""The public surface: sorted, complete, lazy; importing it does no work."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import callspan
import callspan.testing
from callspan.settings import SettingArguments


@pytest.mark.parametrize("module", [callspan, callspan.testing])
def test_the_public_names_are_sorted_and_exist(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        assert getattr(module, name) is not None
        assert getattr(module, name).__doc__, f"{name} has no docstring"


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


@pytest.mark.parametrize("kind", [callspan.Session, callspan.Timestep, callspan.Handle, callspan.RecordedCall])
def test_objects_made_by_functions_cannot_be_constructed_directly(kind: type) -> None:
    assert list(inspect.signature(kind).parameters) == []
    with pytest.raises(TypeError, match=r"is made by callspan\.\w+\(\)"):
        kind()


def test_the_objects_show_their_ids_and_state() -> None:
    session = callspan.session("game", session_id="shown")
    assert repr(session) == "<Session shown name='game' new>"
    with session:
        assert repr(session) == "<Session shown name='game' running>"
        step = session.timestep("move")
        assert repr(step) == f"<Timestep {step.id} index=-1 name='move' new>"
        with step, callspan.tool("dig") as tool:
            assert repr(tool) == f"<Tool {tool.id} name='dig' running>"
    assert repr(session) == "<Session shown name='game' ended>"
    handle = callspan.instrument(enabled=False)
    assert repr(handle).startswith("<Handle in force Settings(enabled=False, ")
    handle.uninstrument()
    assert repr(handle).startswith("<Handle replaced ")
    call = callspan.record_call(provider="vllm")
    assert repr(call) == "<RecordedCall None new>"


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
