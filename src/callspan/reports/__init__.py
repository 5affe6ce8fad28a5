"""Reports: what was recorded as one HTML page that needs no network."""

from __future__ import annotations

from callspan.reports.page import write_report

__all__ = ["write_report"]
