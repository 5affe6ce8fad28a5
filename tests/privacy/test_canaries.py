"""No text of the application is anywhere outside the process but what docs/privacy.md keeps at the setting in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import sdks
from tests.support.canaries import NOT_RECORDED, SETTINGS, everything, leaked, left_of, seen_in
from tests.support.canaries_of_clients import CLIENTS, KEYS

from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(sdks.OPENAI < (3, 54) or sdks.ANTHROPIC < (2, 0), reason="needs what these SDKs have"),
]


def test_canaries_reach_every_place(
    tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """With all content they arrive: what the settings below take away would be found."""
    program, channels = everything(tmp_path, provider, caplog, CLIENTS)
    channels["stderr"] = capfd.readouterr().err
    seen = seen_in(channels)
    masked = {"metasecret", "batchkey", "abatchtoken", "mcptokenm", "mcptokenms", "mcptokenme"}
    assert len(program.used) > 1200
    assert not masked & seen.keys()
    unseen = {label for label in program.used.keys() - seen.keys() - masked if not label.startswith("part")}
    assert not unseen - NOT_RECORDED, sorted(unseen - NOT_RECORDED)
    assert leaked(channels, KEYS) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_canaries_respect_content_levels(
    name: str, tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings, kept = SETTINGS[name]
    program, channels = everything(tmp_path, provider, caplog, CLIENTS, **settings)
    channels["stderr"] = capfd.readouterr().err
    assert len(program.used) > 1200
    assert left_of(program, channels, kept) == {}
    assert leaked(channels, KEYS) == []
    masked = sum(text.count("[mine]") for text in channels.values())
    lost = any("redactor_failed" in text for text in channels.values())
    assert (masked > 1000, lost) == ((True, False) if name == "a redactor of texts" else (False, "redact" in settings))
