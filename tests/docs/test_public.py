"""The public surface: sorted, complete, lazy; importing it does no work."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args, get_type_hints, is_typeddict

import pytest
from typing_extensions import Self, Unpack

import callspan
import callspan.testing
from callspan import CallRecord, records, stores
from callspan.intercept.patching import HookStatus
from callspan.records import Record
from callspan.settings import SettingArguments
from callspan.stores import Reader, SessionSummary
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


DIRECTORIES = """
import callspan, callspan.datasets, callspan.records, callspan.testing
for it in (callspan, callspan.datasets, callspan.records, callspan.testing):
    every = [getattr(it, name) for name in it.__all__]
    print(it.__name__, *(name for name in sorted(set(dir(it)) - set(it.__all__)) if not name.startswith("_")))
"""


def test_completion_of_a_module_shows_only_what_is_for_users(tmp_path: Path) -> None:
    shown = ran("-c", DIRECTORIES, cwd=tmp_path)
    names = ["callspan testing", "callspan.datasets", "callspan.records", "callspan.testing"]
    assert shown.stdout.splitlines() == names


def _reachable() -> set[type]:
    """Return the public classes, and every class of callspan that their members and fields have as type."""
    found: set[type] = set()
    public = [getattr(module, name) for module in (callspan, callspan.testing) for name in module.__all__]
    waiting = [*(thing for thing in public if isinstance(thing, type)), Reader, HookStatus, *get_args(Record)]
    while waiting:
        kind = waiting.pop()
        waiting.extend(get_args(kind))
        ours = isinstance(kind, type) and kind.__module__.startswith("callspan") and not is_typeddict(kind)
        if ours and kind not in found:
            found.add(kind)
            members = [inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")]
            functions = [member.fget if isinstance(member, property) else member for member in members]
            for thing in (kind, *filter(inspect.isfunction, functions)):
                hints = get_type_hints(thing, localns={"Self": Self, "Unpack": Unpack, "Session": callspan.Session})
                waiting.extend(hint for name, hint in hints.items() if not name.startswith("_"))
    return found


def test_every_member_that_a_user_meets_is_documented() -> None:
    kinds = _reachable()
    assert {CallRecord, SessionSummary, callspan.testing.Reply} <= kinds
    missing: list[str] = []
    for kind in kinds:
        members = {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}
        routines = {name for name, one in members.items() if isinstance(one, property) or inspect.isroutine(one)}
        missing += [f"{kind.__name__}.{name}" for name in routines if not _docstring(kind, name)]
    assert sorted(missing) == []


def _docstring(kind: type, name: str) -> str | None:
    # The descriptor of a slot has none of its own; its class documents it.
    value = inspect.getattr_static(kind, name)
    member = value.fget if isinstance(value, property) else value
    if not getattr(member, "__module__", "callspan").startswith("callspan"):
        return "documented by OpenTelemetry"
    return value.__doc__ or (inspect.ismemberdescriptor(value) and inspect.getdoc(kind)) or None


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
