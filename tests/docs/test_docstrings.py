"""Every public name has an example in its docstring, and every example gives the stated result."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import openai
import pytest

import callspan
import callspan.testing
from callspan import datasets
from callspan.record.events import METADATA_FIELDS
from callspan.testing import ScriptedProvider, capture
from callspan.wiring import WIRING

_HI: Any = [{"role": "user", "content": "Hi"}]
PUBLIC = [(module, name) for module in (callspan, callspan.testing) for name in module.__all__]
PUBLIC += [(datasets, "export")]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What examples may use: a client of a provider that says "Hello!", and a store with one recorded call."""
    monkeypatch.chdir(tmp_path)
    # The stores of an exporter stay with the process, whatever is instrumented later.
    monkeypatch.setattr(WIRING, "_exporter_stores", ())
    with ScriptedProvider() as provider:
        provider.reply(text="Hello!", usage={"input_tokens": 9, "output_tokens": 3}, repeat=True)
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            callspan.instrument(stores="recorded.db")
            client.chat.completions.create(model="m", messages=_HI)
            callspan.uninstrument()
            yield {"callspan": callspan, "openai": openai, "client": client, "provider": provider}
            callspan.uninstrument()


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_every_public_name_has_a_working_example(module: ModuleType, name: str, names: dict[str, object]) -> None:
    documentation = inspect.getdoc(getattr(module, name)) or ""
    test = doctest.DocTestParser().get_doctest(documentation, dict(names), name, None, None)
    assert test.examples, f"{name} has no example"
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    results = runner.run(test, out=output.append, clear_globs=False)
    if isinstance(client := test.globs.get("client"), openai.OpenAI):
        client.close()
    assert results.failed == 0, "".join(output)


def _entered(scope: Any) -> None:
    with scope:
        pass


def _twice(scope: Any) -> None:
    _entered(scope)
    _entered(scope)


def _in_session(use: Callable[[callspan.Session], object]) -> None:
    with callspan.session() as session:
        use(session)


MISUSE: dict[str, Callable[[], object]] = {
    "AnthropicInstrumentor": lambda: callspan.AnthropicInstrumentor().instrument(stores="unknown://"),
    "CallRecordExporter": lambda: callspan.CallRecordExporter("unknown://"),
    "OpenAIInstrumentor": lambda: callspan.OpenAIInstrumentor().instrument(stores="unknown://"),
    "Session": lambda: _in_session(lambda session: session.reward(cast("Any", "good"))),
    "Timestep": lambda: _in_session(lambda session: session.timestep().reward(cast("Any", "good"))),
    "Tool": lambda: _twice(callspan.tool("look")),
    "add_callback": lambda: callspan.add_callback(cast("Any", "at noon"), print),
    "capture": lambda: _entered(capture(content=cast("Any", "some"))),
    "content": lambda: callspan.content(cast("Any", "some")),
    "feedback": lambda: callspan.feedback(""),
    "guardrail": lambda: _twice(callspan.guardrail("rude")),
    "handoff": lambda: callspan.handoff("billing", at=cast("Any", "noon")),
    "instrument": lambda: callspan.instrument(content=cast("Any", "some")),
    "invoke_agent": lambda: _twice(callspan.invoke_agent("planner")),
    "open_store": lambda: callspan.open_store("missing.db"),
    "record_call": lambda: callspan.record_call(provider="mine", api=cast("Any", "unknown")),
    "replay": lambda: _entered(callspan.testing.replay("missing.db")),
    "reward": lambda: callspan.reward(1.0),
    "session": lambda: _twice(callspan.session()),
    "timestep": lambda: _entered(callspan.timestep()),
    "tool": lambda: _twice(callspan.tool("look")),
}
"""Incorrect use of public names, each of which raises."""


@pytest.mark.parametrize("name", MISUSE)
def test_an_exception_of_incorrect_use_is_documented(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with capture(), pytest.raises(Exception, match=r".") as raised:
        MISUSE[name]()
    documented = re.findall(r"^ +(\w+Error): ", inspect.getdoc(_public(name)) or "", re.MULTILINE)
    assert {kind.__name__ for kind in type(raised.value).__mro__} & set(documented), f"{name}: {raised.value!r}"


def test_the_docstring_of_metadata_names_all_its_fields() -> None:
    named = set(re.findall(r"\w+", callspan.metadata.__doc__ or ""))
    assert {*METADATA_FIELDS, "extra"} <= named


def _public(name: str) -> object:
    return getattr(callspan, name, None) or getattr(callspan.testing, name)
