"""A parser of server-sent events, as defined by the standard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (`message` where none is given) and its data lines, joined."""

    name: str
    data: str

    def json(self) -> object:
        """Return the data as JSON; None where it is none."""
        try:
            value: object = json.loads(self.data)
        except ValueError:
            return None
        return value


def events(text: str) -> Iterator[Event]:
    """Yield the events of a stream; an event that no blank line ends is dropped, as the standard says."""
    name, data = "message", list[str]()
    for line in _LINE_END.split(text):
        if not line:
            if data:
                yield Event(name, "\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value


def chunks(text: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects a provider sent, up to its `[DONE]`; pings carry nothing and are left out."""
    for event in events(text):
        if event.data.startswith("[DONE]"):
            return
        value = event.json()
        if isinstance(value, dict) and value.get("type") != "ping":
            yield value
