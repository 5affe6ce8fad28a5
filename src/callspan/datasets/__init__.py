"""Datasets: exports recorded calls and sessions as training data."""

from __future__ import annotations

from callspan.datasets.exporting import FORMATS, export
from callspan.datasets.selection import Options, Statistics

__all__ = ["FORMATS", "Options", "Statistics", "export"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
