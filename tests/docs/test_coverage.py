"""The table of coverage agrees with the methods of the installed SDKs and with the code."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from tests.support import sdks
from tests.support.scale import FULL

from callspan.providers.registry import endpoint_for
from callspan.providers.routes import find, is_free

LEAST = {"openai": 300, "anthropic": 300, "groq": 15}
SDKS = tuple(LEAST)
ENDS = ("cancel", "hangup", "refer", "reject")
"""Methods that end the work of another one."""
POST = re.compile(r'self\._(?:post|get_api_list)\(\s*(?:path_template\(\s*)?f?"([^"]+)"')
"""The path to which a method posts. Lists may be posted for too, see `IS_LIST`."""
IS_LIST = re.compile(r"self\._get_api_list\((?!.*method=\"post\")", re.DOTALL)
TABLE: Final = re.compile(r"\| (\w+) \| (`[^|]+) \| ([^|]*)\|")
COUNTED: Final = Path(__file__).with_name("counted_methods.md").read_text()
"""Methods that are counted but not recorded, in the format of the page."""


class Row(NamedTuple):
    """The description of a method."""

    is_recorded: bool
    is_older: bool
    """Exists only in older versions."""


class Method(NamedTuple):
    """One method of an installed SDK."""

    resource: str
    name: str
    function: Callable[..., Any]


def rows(sdk: str) -> Iterator[tuple[tuple[str, str], Row]]:
    """The methods that the page and the table above name, by resource and name."""
    for table, is_recorded in ((sdks.COVERAGE.read_text().partition("<!-- methods -->")[2], True), (COUNTED, False)):
        for of, methods, note in TABLE.findall(table):
            for resource, names in re.findall(r"`([\w.]+)` ([\w, ]+)", methods) if of == sdk else ():
                row = Row(is_recorded, "older versions only" in note)
                yield from (((resource, name), row) for name in names.split(", "))


def methods_of(sdk: str) -> Iterator[Method]:
    """Yield the methods of all resources; async ones have the same."""
    resources, kind = import_module(f"{sdk}.resources"), import_module(f"{sdk}._resource").SyncAPIResource
    for found in pkgutil.walk_packages(resources.__path__, f"{sdk}.resources."):
        names = found.name.split(".")[2:]
        resource = ".".join(names[:-1] if len(names) > 1 and names[-1] == names[-2] else names)
        for owner in vars(import_module(found.name)).values():
            if inspect.isclass(owner) and issubclass(owner, kind) and owner.__module__ == found.name:
                functions = {name: each for name, each in vars(owner).items() if inspect.isfunction(each)}
                yield from (Method(resource, *one) for one in functions.items() if not one[0].startswith("_"))


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    """An SDK in the version named by the page; at full scale also in another one, whose failure is informative.

    A change to this project should not have to wait for a release of an SDK.
    """
    name: str = request.param
    if not FULL and not sdks.is_read(name):
        pytest.skip(f"{name} {metadata.version(name)} is not the version that the page names")
    return name


def test_row_names_are_distinct_methods(sdk: str) -> None:
    found = {(method.resource, method.name) for method in methods_of(sdk)}
    assert len(found) > LEAST[sdk]
    named = [name for name, _ in rows(sdk)]
    assert len(set(named)) == len(named)
    assert [name for name, row in rows(sdk) if name not in found and not row.is_older] == []


def test_row_decides_whether_a_post_is_recorded_counted_or_free(sdk: str) -> None:
    """By the path to which its source posts. Paths without a row are free."""
    recorded, others, row_of = 0, 0, dict(rows(sdk))
    for method in methods_of(sdk):
        row = row_of.get((method.resource, method.name))
        source = inspect.getsource(inspect.unwrap(method.function))
        posted = POST.search(source)
        if posted is None or IS_LIST.search(source):
            continue
        path, said = posted[1], f"{method.resource}.{method.name} posts to {posted[1]}"
        found = find("post", path)
        kind = None if found is None else found.path.kind
        is_recorded = row is not None and row.is_recorded
        recorded, others = recorded + is_recorded, others + (not is_recorded)
        assert (bool(endpoint_for("post", path)) or kind == "fetch") == is_recorded, said
        if not is_recorded and (row is None or method.name in ENDS):
            assert kind == "no inference" or (kind is None and is_free(path)), said
        elif not is_recorded:
            assert kind == "not recorded", said
    assert recorded + others > LEAST[sdk] / 10
    assert others > LEAST[sdk] / 10 - 1
