"""What the installed SDKs have: old ones lack features, which skips their tests with the reason."""

from __future__ import annotations

import re
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest


def version(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", metadata.version(name))[:3])


COVERAGE: Final = Path(__file__).parents[2] / "docs" / "records.md"
"""The page that names the methods that are recorded, and the versions that have them."""
OPENAI: Final = version("openai")
ANTHROPIC: Final = version("anthropic")


def is_read(name: str) -> bool:
    """Whether that page names the installed version of an SDK."""
    installed = ".".join(metadata.version(name).split(".")[:2])
    return f"{name} {installed}" in COVERAGE.read_text().partition("<!-- methods -->")[0]


def needs(name: str, since: str, what: str) -> None:
    """Skip the test, or the module, where the SDK is older than the version that brought `what`."""
    if version(name) < tuple(map(int, since.split("."))):
        pytest.skip(f"{name} has {what} since {since}", allow_module_level=True)


def http_of(name: str) -> ModuleType:
    """The HTTP library the SDK is built on: httpx2, or httpx in older versions."""
    base: Any = import_module(f"{name}._base_client")
    return getattr(base, "httpx2", None) or base.httpx


def needs_name(client: Any, path: str) -> None:
    """Skip the test where the client has no such method."""
    owner = client
    for name in path.split("."):
        owner = getattr(owner, name, None)
        if owner is None:
            pytest.skip(f"{type(client).__name__} of this version has no {path}")
