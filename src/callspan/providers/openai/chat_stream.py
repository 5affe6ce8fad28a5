"""Chat streams: chunks to the `chat.completion` body the endpoint would have returned in one piece."""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.openai.chat_choice import Choice
from callspan.providers.openai.envelope import Envelope
from callspan.providers.pieces import FULL

_ABSENT: Final = object()
_BARE: Final = 3
"""Fields of a plain choice: index, delta, finish_reason."""


class ChatAccumulator:
    """Folds chat chunks. Choices are told apart by their index, without one by their place in the list."""

    __slots__ = ("_came", "_choices", "_envelope", "_lane", "_open", "_width", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._came = False
        self._envelope = Envelope()
        self._choices: dict[int, Choice] = {}
        # No chunk has this index, so that the first one takes the long way.
        self._lane = Choice(-1)
        self._open: tuple[str, ...] = ()
        self._width = -1

    def add(self, chunk: object) -> bool:
        """Fold in one chunk; True if it carried content. Anything but an object is ignored.

        The common chunk, one text delta with nothing new around it, takes the short way here.
        """
        if not isinstance(chunk, dict):
            return False
        # Something new around the text shows by the number of fields; counting is all the hot path can afford.
        if len(chunk) != self._width or chunk.get("usage") is not None:
            return self._add(chunk)
        for key in self._open:
            if chunk.get(key):
                return self._add(chunk)
        choices = chunk.get("choices")
        text = self._plain_text(choices)
        if text is None:
            return self._add_choices(choices) if _goes_on(choices) else self._add(chunk)
        loose = self._lane.content.loose
        loose.append(text)
        if len(loose) >= FULL:
            self._lane.content.pack()
        return text != ""

    def body(self) -> dict[str, object] | None:
        """Return the `chat.completion` so far; None if no chunk came."""
        if not self._came:
            return None
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        return self._envelope.body("chat.completion", choices)

    def _plain_text(self, choices: object) -> str | None:
        """The text of a delta that has nothing else, for the choice that came last; None for all others."""
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            return None
        choice, lane = choices[0], self._lane
        if choice.get("finish_reason", _ABSENT) is not None or choice.get("index") != lane.index:
            return None
        size = len(choice)
        if size != _BARE and (size != _BARE + 1 or choice.get("logprobs", _ABSENT) is not None):
            return None
        delta = choice.get("delta")
        if not isinstance(delta, dict) or (len(delta) != 1 and not (_repeats_role(delta) and lane.role)):
            return None
        text = delta.get("content")
        return text if isinstance(text, str) else None

    def _add(self, chunk: dict[str, Any]) -> bool:
        self._came = True
        self._envelope.take(chunk)
        self._open = self._envelope.still_open
        self._width = len(chunk)
        choices = chunk.get("choices")
        # Usage alone is the last chunk, also of servers that never give a finish reason.
        if choices == [] and self._choices and chunk.get("usage"):
            self.complete = True
        return self._add_choices(choices)

    def _add_choices(self, choices: object) -> bool:
        carried = False
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                carried = self._add_choice(choice, position) or carried
        return carried

    def _add_choice(self, choice: dict[str, Any], position: int) -> bool:
        index = choice.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            index = position
        lane = self._choices.get(index)
        if lane is None:
            lane = self._choices[index] = Choice(index)
        self._lane = lane
        carried = lane.take(choice)
        self.complete = all(known.finish_reason for known in self._choices.values())
        return carried


def _goes_on(choices: object) -> bool:
    """Tell whether this is one choice that has not ended: what comes at the end is looked at more closely."""
    if not isinstance(choices, list) or len(choices) != 1:
        return False
    return isinstance(choices[0], dict) and choices[0].get("finish_reason") is None


def _repeats_role(delta: dict[str, Any]) -> bool:
    return len(delta) == 2 and "role" in delta  # noqa: PLR2004 - role and content
