"""The demo: where one run of it kept its records, and how many spans it has."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.support import sdks

VOICE_CALLS = 2 if find_spec("websockets") and sdks.version("websockets") >= (15,) and sdks.OPENAI >= (2, 30) else 0
"""Calls of the demo by voice: what the user says, and the answer."""
SPOKEN = ("chat gpt-realtime", "generate_content whisper-1")
"""Names of their spans."""
DEMO_SPANS = 100 + VOICE_CALLS


class Demo(NamedTuple):
    """One run of `callspan demo` in a directory of its own."""

    directory: Path

    @property
    def store(self) -> str:
        return f"sqlite:///{self.directory / 'callspan.db'}"
