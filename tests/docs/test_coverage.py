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
from tests.support.scale import FULL
from tests.support.sdk_methods import ROWS, Method, is_read, methods_of, row_of

from callspan.providers.registry import endpoint_for
from callspan.providers.routes import find, is_free

LEAST = {"openai": 300, "anthropic": 300, "groq": 15}
SDKS = tuple(LEAST)
ENDS = ("cancel", "hangup", "refer", "reject")
"""They end what another method has begun."""
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


def test_what_a_method_posts_is_recorded_counted_or_free_as_its_row_says(sdk: str) -> None:
    """By the path to which its own source posts; what has no row is free."""
    recorded = others = 0
    for method in methods_of(sdk):
        row, path = row_of(method), posted(method)
        if path is None:
            continue
        found = find("post", path)
        kind = None if found is None else found.path.kind
        is_recorded = row is not None and row.is_recorded
        recorded, others = recorded + is_recorded, others + (not is_recorded)
        taken = bool(endpoint_for("post", path)) or kind == "fetch"
        assert taken == is_recorded, f"{method} posts to {path}"
        if not is_recorded and (row is None or method.name in ENDS):
            assert kind == "no inference" or (kind is None and is_free(path)), f"{method} posts to {path}"
        elif not is_recorded:
            assert kind == "not recorded", f"{method} posts to {path}"
    assert recorded + others > LEAST[sdk] / 10
    assert others > LEAST[sdk] / 10 - 1


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
