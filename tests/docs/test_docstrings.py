"""Every public name has an example in its docstring, and every example gives the stated result."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openai
import pytest

import callspan
import callspan.testing
from callspan import datasets
from callspan.testing import ScriptedProvider
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
