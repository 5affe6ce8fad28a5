"""Datasets: exports recorded calls and sessions as training data."""

from __future__ import annotations

from callspan.datasets.exporting import FORMATS, export
from callspan.datasets.selection import Options, Statistics

__all__ = ["FORMATS", "Options", "Statistics", "export"]
