"""The benchmarks' page, and switching other instrumentations on and off."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt

_BENCH = Path(__file__).resolve().parents[3] / "bench"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"callspan_bench_{name}", _BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_part_of_the_page_is_rewritten_alone(tmp_path: Path) -> None:
    page, file = load("page"), tmp_path / "page.md"
    page.put("scale", "## Many\n\nold", file)
    page.put("times", "## Times\n\nmeasured", file)
    page.put("scale", "## Many\n\nnew", file)
    written = file.read_text()
    assert written.startswith("# Overhead of callspan\n")
    assert written.count("## Times\n\nmeasured") == written.count("## Many\n\nnew") == 1
    assert "old" not in written
    assert written.index("## Times") < written.index("## Many")


def test_writing_the_same_part_again_changes_nothing(tmp_path: Path) -> None:
    page, file = load("page"), tmp_path / "page.md"
    for name in ("times", "peers", "times"):
        page.put(name, f"about {name}", file)
    before = file.read_text()
    page.put("peers", "about peers", file)
    assert file.read_text() == before


def test_the_published_page_has_the_parts_that_the_targets_write() -> None:
    page = load("page")
    for name in page.PARTS:
        assert page.PAGE.read_text().count(f"<!-- {name}: begin -->") <= 1


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> type:
    """A client of an SDK whose `request` is inherited, as both SDKs have it."""

    class Base:
        def request(self) -> str:
            return "bare"

    class Client(Base):
        pass

    Base.__module__ = Client.__module__ = "an_sdk"
    module = ModuleType("an_sdk")
    vars(module).update(Base=Base, Client=Client)
    monkeypatch.setitem(sys.modules, "an_sdk", module)
    return Client


def wrapped(function: Any, instance: object, args: Any, kwargs: Any) -> str:
    return f"traced {function()}"


def test_patches_of_a_peer_exist_only_while_it_is_active(sdk: Any) -> None:
    toggle = load("toggles").Toggle(lambda: wrapt.wrap_function_wrapper(sdk, "request", wrapped), ("an_sdk",))
    assert sdk().request() == "bare"
    assert "request" not in vars(sdk)
    with toggle.on():
        assert sdk().request() == "traced bare"
    assert sdk().request() == "bare"
    assert "request" not in vars(sdk)


def test_a_peer_is_switched_off_although_a_call_failed(sdk: Any) -> None:
    toggle = load("toggles").Toggle(lambda: wrapt.wrap_function_wrapper(sdk, "request", wrapped), ("an_sdk",))
    with pytest.raises(RuntimeError, match="of the work"), toggle.on():
        raise RuntimeError("of the work")
    assert sdk().request() == "bare"


def test_what_a_peer_has_loaded_and_replaced_at_once_is_bare_as_well(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK's module that nobody had needed before: what it was like is known from within the wrapper."""
    module = sys.modules.pop("an_sdk")

    def switch_on() -> None:
        monkeypatch.setitem(sys.modules, "an_sdk", module)
        wrapt.wrap_function_wrapper(module, "Base.request", wrapped)

    toggle = load("toggles").Toggle(switch_on, ("an_sdk",))
    assert sdk().request() == "bare"
    with toggle.on():
        assert sdk().request() == "traced bare"


def test_a_part_of_a_page_of_others_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page, file = load("page"), tmp_path / "README.md"
    file.write_text("# Mine\n\n<!-- peers: begin -->\n\nold\n\n<!-- peers: end -->\n\n## More\n")
    page.replace("peers", "new", file)
    assert file.read_text() == "# Mine\n\n<!-- peers: begin -->\n\nnew\n\n<!-- peers: end -->\n\n## More\n"


def test_a_page_without_the_part_is_left_alone(tmp_path: Path) -> None:
    page, file = load("page"), tmp_path / "README.md"
    file.write_text("# Mine\n")
    with pytest.raises(ValueError, match="peers: begin"):
        page.replace("peers", "new", file)
    assert file.read_text() == "# Mine\n"


_PARTS = """
import repeated
from rows import provider
print(*(piece.name for piece in repeated.measure(provider(), repeated.COLUMNS[:1])), sep="\\n")
"""


def test_every_part_that_is_timed_is_still_a_part_of_a_call() -> None:
    environment = {**os.environ, "PYTHONPATH": str(_BENCH)}
    command = [sys.executable, "-c", _PARTS]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "processors" in found.stdout.splitlines()
