"""A process without settings, on a machine where no application has left records."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings(no_settings: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every test of the command: `doctor` looks at all that waits in the user's state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
