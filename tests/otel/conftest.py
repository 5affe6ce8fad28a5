"""Fixtures of the OpenTelemetry tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from callspan.testing import ScriptedProvider
from tests.support.launching import Stage
from tests.support.receiver import OtlpReceiver


@pytest.fixture
def stage(tmp_path: Path, provider: ScriptedProvider, receiver: OtlpReceiver) -> Stage:
    return Stage(tmp_path, provider, receiver)
