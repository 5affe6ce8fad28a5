"""The table of coverage agrees with the methods of the installed SDKs, and with the code."""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Iterator
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

import pytest

from callspan.providers.registry import endpoint_for
from callspan.providers.routes import find, is_free
from tests.documents.pages import ROOT
from tests.documents.sdk_methods import ROWS, Method, is_read, methods_of, row_of
from tests.scale import FULL

LEAST = {"openai": 300, "anthropic": 300, "groq": 15}
SDKS = tuple(LEAST)
POST = re.compile(r'self\._post\(\s*(?:path_template\(\s*)?f?"([^"]+)"')


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    """An SDK of the version that the page names; at full scale also another one, so that somebody reads it.

    A release of an SDK is nothing that a change to this project should wait for.
    """
    name: str = request.param
    if not FULL and not is_read(name):
        pytest.skip(f"{name} {metadata.version(name)} is not the version that the page names")
    return name


def test_each_name_of_a_row_is_a_method_of_its_own(sdk: str) -> None:
    found = list(methods_of(sdk))
    assert len(found) > LEAST[sdk]
    names = {(method.resource, method.name) for method in found}
    for row in ROWS:
        if row.sdk == sdk and not row.older:
            assert [name for name in row.methods if (row.resource, name) not in names] == []
            assert all(row_of(Method(sdk, row.resource, name)) is row for name in row.methods)


def test_recorded_is_what_the_adapters_take_and_nothing_else(sdk: str) -> None:
    """By the path to which a method's own source posts."""
    checked = 0
    for method in methods_of(sdk):
        row = row_of(method)
        path = posted(method)
        if path is not None:
            checked += 1
            taken = endpoint_for("post", path) or _completes(path)
            assert bool(taken) == (row is not None and row.is_recorded), f"{method} posts to {path}"
    assert checked > LEAST[sdk] / 10


def _completes(path: str) -> bool:
    """Whether a POST completes a call."""
    found = find("post", path)
    return found is not None and found.path.kind == "fetch"


def test_inference_without_a_record_is_counted_and_what_repeats_its_usage_is_not(sdk: str) -> None:
    """By the path to which a method's own source posts, and by what its answer has."""
    checked = 0
    for method in methods_of(sdk):
        row, path = row_of(method), posted(method)
        if path is None or (row is not None and row.is_recorded):
            continue
        checked += 1
        found = find("post", path)
        kind = None if found is None else found.path.kind
        if row is None or method.name in ENDS:
            assert kind == "no inference" or (kind is None and is_free(path)), f"{method} posts to {path}"
        else:
            assert kind == "not recorded", f"{method} posts to {path}"
    assert checked > LEAST[sdk] / 10 - 1


ENDS = ("cancel", "hangup", "refer", "reject")
"""They end what another method has begun."""


def functions_of(method: Method) -> Iterator[tuple[Any, ModuleType]]:
    """The function of a method, and its module, as imported."""
    name = method.resource.rsplit(".", 1)[-1]
    for place in (f"{method.sdk}.resources.{method.resource}.{name}", f"{method.sdk}.resources.{method.resource}"):
        try:
            module = import_module(place)
        except ModuleNotFoundError:
            continue
        for kind in vars(module).values():
            own = inspect.isclass(kind) and kind.__module__ == place and not kind.__name__.startswith("Async")
            if own and method.name in vars(kind):
                yield vars(kind)[method.name], module


def posted(method: Method) -> str | None:
    """The path a method posts to, ids in it as they are named; None: it posts to none."""
    for function, _ in functions_of(method):
        code = inspect.unwrap(function).__code__
        last = max(line for *_, line in code.co_lines() if line)
        found = POST.search("".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last]))
        return None if found is None else found[1]
    return None


def test_pages_name_every_sdk_and_the_versions_that_were_read(sdk: str) -> None:
    assert is_read(sdk)
    (settings,) = re.findall(r"`sdks` \([^)]*\)", (ROOT / "docs/settings.md").read_text())
    assert f'"{sdk}"' in settings
    (description,) = re.findall('^description = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sdk in description
