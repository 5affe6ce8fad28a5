"""Fixtures of the OpenTelemetry tests."""

from __future__ import annotations

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
