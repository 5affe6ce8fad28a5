"""Datasets: recorded calls and sessions as training data. `export` writes a file; `FORMATS` says which there are."""

from __future__ import annotations

from callspan.datasets.choosing import Choice
from callspan.datasets.exporting import FORMATS, export
from callspan.datasets.statistics import Statistics

__all__ = ["FORMATS", "Choice", "Statistics", "export"]
