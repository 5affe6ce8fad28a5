"""Reports: renders recorded calls and sessions as one self-contained HTML page."""

from __future__ import annotations

from callspan.reports.page import write_report

__all__ = ["write_report"]
