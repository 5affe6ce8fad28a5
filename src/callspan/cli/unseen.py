"""Unseen: installed packages that call models in a way that callspan does not see, or in part."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Final, NamedTuple


class Unseen(NamedTuple):
    """A package whose calls, or part of them, are not recorded."""

    distribution: str
    what: str
    """Which of its calls, and why."""
    is_whole: bool = True
    """Whether all its calls are unseen."""


_PACKAGES: Final = (
    Unseen("xai-sdk", "it sends by gRPC"),
    Unseen("azure-ai-inference", "it sends by requests and aiohttp"),
    Unseen("google-generativeai", "it sends by gRPC"),
    Unseen("google-cloud-aiplatform", "its generative models send by gRPC"),
    Unseen("litellm", "`aiohttp_openai/` sends by aiohttp, its native mode by no Python code", is_whole=False),
    Unseen("dspy", "its default engine has sockets of its own; `engine=\"litellm\"` is recorded", is_whole=False),
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
    """Return a line that names them; None if there are none."""
    names = [
        package.distribution if package.is_whole else f"parts of {package.distribution}" for package in installed()
    ]
    return f"not seen: calls by {', '.join(names)}; why, and what to do: callspan doctor" if names else None
