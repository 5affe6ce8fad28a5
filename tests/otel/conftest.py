"""Fixtures of the OpenTelemetry tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from callspan.testing import ScriptedProvider
from tests.otel.launching import Stage
from tests.otel.receiver import OtlpReceiver


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def stage(tmp_path: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> Stage:
    return Stage(tmp_path, provider, receiver)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every warning that anybody logs."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)
