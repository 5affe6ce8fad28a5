"""Spoken answers of a chat stream: fragments of base64 and transcript to one audio object."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from callspan.fail_open import ours
from callspan.providers.copies import fill
from callspan.providers.string_builder import StringBuilder


class Audio:
    """One audio answer under construction."""

    __slots__ = ("_data", "_fields", "_transcript")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._data: list[str] = []
        self._transcript = StringBuilder()

    def take(self, fragment: dict[str, Any]) -> bool:
        """Fold in one `delta.audio`; return True if it carried sound or words."""
        data, transcript = fragment.get("data"), fragment.get("transcript")
        if isinstance(data, str) and data:
            self._data.append(data)
        if isinstance(transcript, str):
            self._transcript.add(transcript)
        fill(self._fields, {key: value for key, value in fragment.items() if key not in ("data", "transcript")})
        return bool(data or transcript)

    def body(self) -> dict[str, Any]:
        """Return the audio object as a whole answer has it."""
        whole = dict(self._fields)
        if self._data:
            whole["data"] = _joined(self._data)
        if self._transcript:
            whole["transcript"] = self._transcript.joined()
        return whole


def _joined(fragments: list[str]) -> str:
    """One base64 text: fragments that were padded one by one are decoded before they are joined."""
    if not any(fragment.endswith("=") for fragment in fragments[:-1]):
        return "".join(fragments)
    try:
        sound = b"".join(base64.b64decode(fragment, validate=True) for fragment in fragments)
    except ours(binascii.Error, ValueError):
        return "".join(fragments)
    return base64.b64encode(sound).decode()
