"""No text of the application is anywhere outside the process but what docs/privacy.md keeps at the setting in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import sdks
from tests.support.canaries import NOT_RECORDED, SETTINGS, everything, leaked, left_of, seen_in

from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(sdks.OPENAI < (3, 54) or sdks.ANTHROPIC < (2, 0), reason="needs what these SDKs have"),
]


def test_canaries_reach_every_place(
    tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """With all content they arrive: what the settings below take away would be found."""
    program, channels = everything(tmp_path, provider, caplog)
    seen = seen_in(channels)
    masked = {"metasecret", "batchkey", "abatchtoken", "mcptokenm", "mcptokenms", "mcptokenme"}
    assert len(program.used) > 250
    assert not masked & seen.keys()
    assert program.used.keys() - seen.keys() - masked <= NOT_RECORDED
    assert leaked(channels) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_canaries_respect_content_levels(
    name: str, tmp_path: Path, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    settings, kept = SETTINGS[name]
    program, channels = everything(tmp_path, provider, caplog, **settings)
    assert len(program.used) > 250
    assert left_of(program, channels, kept) == {}
    assert leaked(channels) == []
    masked = sum(text.count("[mine]") for text in channels.values())
    lost = any("redactor_failed" in text for text in channels.values())
    assert (masked > 1000, lost) == ((True, False) if name == "a redactor of texts" else (False, "redact" in settings))
