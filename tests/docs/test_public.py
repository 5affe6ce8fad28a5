"""Public names, pages and docstrings: complete, documented, with examples that work; importing does no work."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import openai
import pytest
from tests.support.commands import ask
from tests.support.pages import ROOT, links, pages, readme
from tests.support.processes import ran
from tests.support.records import keep, made

import callspan
import callspan.testing
from callspan import Settings, datasets, records, stores
from callspan.records import Usage
from callspan.settings import SettingArguments
from callspan.settings_loader import variables
from callspan.testing import Capture, Reply, ScriptedProvider


@pytest.mark.parametrize("module", [records, stores])
def test_public_names_without_an_example_are_documented(module: object) -> None:
    for name in module.__all__:  # type: ignore[attr-defined]
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{name} has no docstring"


def test_setting_is_a_documented_argument() -> None:
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
heavy = {"openai", "anthropic", "wrapt", "msgspec", "opentelemetry", "sqlite3", "click", "rich", "logging"} & loaded
assert not heavy, heavy
callspan.instrument
sdks = {"openai", "anthropic", "sqlite3", "psycopg", "click", "rich"} & set(sys.modules)
assert not sdks, sdks
assert threading.active_count() == 1
"""


INSTRUMENT = """
import os, sys, threading
import callspan
handle = callspan.instrument(stores="sqlite:///calls.db", log_events=True)
assert threading.active_count() == 1, threading.enumerate()
assert os.listdir(".") == []
heavy = ("openai", "anthropic", "opentelemetry.sdk.metrics", "opentelemetry.exporter", "callspan.stores.query.reader")
assert not [name for name in sys.modules if name.startswith(heavy)]
handle.uninstrument()
"""


@pytest.mark.parametrize("program", [IMPORT, INSTRUMENT], ids=["importing", "instrumenting"])
def test_import_and_instrument_load_no_sdk_file_or_thread(program: str, tmp_path: Path) -> None:
    ran("-c", program, cwd=tmp_path)


_HI: Any = [{"role": "user", "content": "Hi"}]
PUBLIC = [(module, name) for module in (callspan, callspan.testing) for name in module.__all__]
PUBLIC += [(datasets, "export")]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """Names for examples: a client of a provider that answers "Hello!", and a store with one recorded call."""
    monkeypatch.chdir(tmp_path)
    # The stores of an exporter stay active in the process, whatever is instrumented later.
    monkeypatch.setattr("callspan.wiring.WIRING._exporter_stores", ())
    with ScriptedProvider() as provider:
        provider.reply(text="Hello!", usage={"input_tokens": 9, "output_tokens": 3}, repeat=True)
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            callspan.instrument(stores="recorded.db")
            client.chat.completions.create(model="m", messages=_HI)
            callspan.uninstrument()
            yield {"callspan": callspan, "openai": openai, "client": client, "provider": provider}
            callspan.uninstrument()


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_public_name_has_a_working_example(module: ModuleType, name: str, names: dict[str, object]) -> None:
    documentation = inspect.getdoc(getattr(module, name)) or ""
    test = doctest.DocTestParser().get_doctest(documentation, dict(names), name, None, None)
    assert test.examples, f"{name} has no example"
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    results = runner.run(test, out=output.append, clear_globs=False)
    if isinstance(client := test.globs.get("client"), openai.OpenAI):
        client.close()
    assert results.failed == 0, "".join(output)


def test_public_names_are_those_of_the_file() -> None:
    ran("tools/public_names.py", "--check", cwd=ROOT)


IMPORTS: Final = re.compile(r"^ *from (callspan[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def test_documented_imports_are_public_names() -> None:
    names = (ROOT / "docs/public_names.txt").read_text()
    imported = {
        f"{module}.{name}"
        for page in (readme(), *pages())
        for module, words in IMPORTS.findall(page.read_text())
        for name in words.split(", ")
    }
    modules = {"callspan.datasets", "callspan.stores", "callspan.testing"}
    assert len(imported) > 10
    assert [name for name in sorted(imported - modules) if not re.search(rf"^{name}\b", names, re.MULTILINE)] == []


def rows() -> dict[str, str]:
    page = (ROOT / "docs/settings.md").read_text()
    return {match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE)}


def test_documented_settings_are_exactly_the_settings() -> None:
    assert set(rows()) == set(Settings.__struct_fields__)


def test_documented_variables_are_exactly_those_read() -> None:
    shown = rows()
    assert [one for setting, one in variables().items() if f"`{one}`" not in shown[setting]] == []
    known = {*variables().values(), "CALLSPAN_SCALE"}
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        assert set(re.findall(r"`?(CALLSPAN_[A-Z_]+)`?", page.read_text())) <= known, page.name


def test_links_between_documents_resolve() -> None:
    for page in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]:
        assert [str(target) for target in links(page) if not target.exists()] == [], page.name


NAMED: Final = re.compile(r"docs/([\w-]+\.md)(?:#([\w-]+))?")
"""A page that help, an error or a docstring names, and its anchor."""


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as the site makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
    return {re.sub(r"[-\s]+", "-", title) for title in words} | set(re.findall(r'<a id="([^"]+)"', text))


def test_pages_named_by_help_and_errors_exist() -> None:
    texts = [
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    named = {match.groups() for text in texts for match in NAMED.finditer(text)}
    assert named
    assert {page for page, _ in named if not (ROOT / "docs" / page).exists()} == set()
    assert {(page, anchor) for page, anchor in named if anchor and anchor not in anchors(ROOT / "docs" / page)} == set()


def test_documents_are_reachable_from_the_readme() -> None:
    """By links on the README itself, because nobody searches for unknown pages."""
    missing = {page.name for page in (ROOT / "docs").rglob("*.md")} - {page.name for page in links(readme())}
    assert missing == set()
    assert set((ROOT / "docs").glob("*.md")) <= set(pages())


def test_documented_price_file_is_valid(tmp_path: Path, store: str) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/cost.md").read_text(), re.DOTALL)
    file = tmp_path / "prices.json"
    file.write_text(block)
    keep(store, made(provider="openai", usage=Usage(input_tokens=8, output_tokens=1)))
    assert ask("--store", store, "reprice", "--prices", str(file)).code == 0
    (call,) = ask("--store", store, "--json", "calls").json
    assert call["cost_usd"] == "0.00002"
    assert "contract-7" in ask("--store", store, "show", call["call_id"]).out


def named(table: str) -> set[str]:
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_fields_of_replies_and_captures_are_documented() -> None:
    page = (ROOT / "docs/testing.md").read_text()
    properties = {name for name, member in vars(Capture).items() if isinstance(member, property)}
    fields = page.partition("### The fields of a reply")[2].partition("###")[0]
    assert named(fields) == {field.name for field in dataclasses.fields(Reply)}
    assert named(page.partition("| `seen.`")[2]) == properties


def test_extras_are_documented() -> None:
    table = (ROOT / "docs/support.md").read_text().partition("## Extras")[2].partition("##")[0]
    assert named(table) == set(metadata("callspan").get_all("Provides-Extra") or ())


def test_message_names_pages_by_their_titles() -> None:
    """A wheel has no `docs`: a text of the source that is no docstring names a title, which a page or section has."""
    titles = set(re.findall(r"^#+ (.*)$", "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md")), re.M))
    named: set[str] = set()
    for path in sorted((ROOT / "src/callspan").rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
        for text in ast.walk(tree):
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in docstrings:
                assert not re.search(r"docs/\S*\.md", text.value), f"{path}:{text.lineno}"
                named |= set(re.findall(r"'([A-Z][^']*)' in the\sdocumentation", text.value))
            elif isinstance(text, ast.keyword) and text.arg == "page" and isinstance(text.value, ast.Constant):
                named |= set(str(text.value.value).split(": "))
    assert len(named) > 15
    assert named <= titles
