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


_SCOPE = "end session start state using"
_RECORDS = "environment environment_step event guardrail handoff id invoke_agent message name observation reward tool"
_OPERATION = f"{_SCOPE} error id name output"
COMPLETION = {
    "session": f"{_SCOPE} {_RECORDS} action carrier outcome timestep update",
    "timestep": f"{_SCOPE} {_RECORDS} action index step_id update",
    "tool": f"{_OPERATION} arguments result tool_call_id",
    "invoke_agent": f"{_OPERATION} description",
    "guardrail": f"{_OPERATION} triggered",
    "environment_step": f"{_SCOPE} set_result",
    "record_call": "attempt_started call_id chunk request response response_headers",
    "instrument": "counters force_flush settings uninstrument",
    "capture": "events everything records sessions spans timesteps",
    "scripted provider": "anthropic_url close openai_url pending reply requests url webhook",
    "replay": "anthropic_url close openai_url pending reply requests unused url webhook",
}
"""The public names of the object that each function makes: what completion and `help()` show."""


def test_completion_shows_only_what_is_for_users() -> None:
    session = callspan.session("game")
    with callspan.testing.capture() as captured, callspan.testing.ScriptedProvider() as provider:
        made = {
            "session": session,
            "timestep": callspan.timestep(),
            "tool": callspan.tool("dig"),
            "invoke_agent": callspan.invoke_agent("triage"),
            "guardrail": callspan.guardrail("safe"),
            "environment_step": session.environment_step(),
            "record_call": callspan.record_call(provider="vllm"),
            "instrument": callspan.instrument(enabled=False),
            "capture": captured,
            "scripted provider": provider,
        }
        shown = {
            function: {name for name in dir(thing) if not name.startswith("_")} for function, thing in made.items()
        }
    shown["replay"] = {name for name in dir(callspan.testing.Replayed) if not name.startswith("_")}
    assert shown == {function: set(names.split()) for function, names in COMPLETION.items()}
    kinds = [*map(type, made.values()), callspan.testing.Replayed]
    described = [(kind, name) for kind in kinds for name in dir(kind) if not name.startswith("_")]
    assert [(kind.__name__, name) for kind, name in described if not _docstring(kind, name)] == []


def _docstring(kind: type, name: str) -> str | None:
    # The descriptor of a slot has none of its own; its class documents it.
    value = inspect.getattr_static(kind, name)
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
