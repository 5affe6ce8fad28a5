"""Unseen: installed packages that call models in a way that callspan does not see, or in part."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final, NamedTuple


class Unseen(NamedTuple):
    """A package that makes calls, all or some of them unrecorded."""

    distribution: str
    module: str
    """The module that a process imports if it uses the package."""
    what: str
    """Which of its calls, and why."""
    is_whole: bool = True
    """Whether all its calls are unseen."""


_PACKAGES: Final = (
    Unseen("xai-sdk", "xai_sdk", "it sends by gRPC"),
    Unseen("google-generativeai", "google.generativeai", "it sends by gRPC"),
    Unseen("google-cloud-aiplatform", "vertexai", "its generative models send by gRPC"),
    Unseen("litellm", "litellm", "its native mode sends by no Python code", False),
    Unseen("dspy", "dspy", "its default engine has sockets of its own; `engine=\"litellm\"` is recorded", False),
)  # fmt: skip
WAY_OUT: Final = (
    "Record such calls with callspan.record_call, or the spans of their own instrumentation with `callspan receive`."
)


def installed() -> Iterator[Unseen]:
    """Yield those that are installed beside callspan."""
    for package in _PACKAGES:
        try:
            metadata.version(package.distribution)
        except metadata.PackageNotFoundError:
            continue
        yield package


def line() -> str | None:
    """Return a line that names the installed ones, or None."""
    names = [
        package.distribution if package.is_whole else f"parts of {package.distribution}" for package in installed()
    ]
    return _line(names)


def line_of_process() -> str | None:
    """Return a line that names the ones this process has imported, or None."""
    return _line([package.distribution for package in _PACKAGES if package.is_whole and package.module in sys.modules])


def _line(names: list[str]) -> str | None:
    return f"not seen: calls by {', '.join(names)}; why, and what to do: callspan doctor" if names else None
