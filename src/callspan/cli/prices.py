"""Prices: the pricer of the commands that compute costs."""

from __future__ import annotations

from pathlib import Path

import click

from callspan.cost import PriceFileError, Pricer, pricer_for
from callspan.runtime.safe_urls import error_text
from callspan.settings_loader import load


def pricer_of_now() -> Pricer:
    """Return the pricer that `callspan reprice` has; that of the published prices if the configured file is invalid."""
    try:
        return configured_pricer()
    except click.UsageError:
        return pricer_for(None)


def configured_pricer(prices: Path | None = None) -> Pricer:
    """Return the pricer for a price file, by default the configured one. Raises UsageError for an invalid file."""
    try:
        return pricer_for(prices or load().prices)
    except PriceFileError as error:
        raise click.UsageError(error_text(error)) from error
