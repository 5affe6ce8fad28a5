"""The recorded exchanges: where they lie, and one typed value for each.

The corpus is not part of the project; the folder that holds `exchanges.jsonl.gz` comes from the
environment variable `CALLSPAN_WIRE_CORPUS`.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "CALLSPAN_WIRE_CORPUS"
FILE = "exchanges.jsonl.gz"


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """One HTTP exchange with a real provider, as recorded; equal only to itself."""

    id: str
    source: str
    method: str
    host: str
    path: str
    endpoint: str
    """chat_completions, responses, messages, completions, embeddings or count_tokens."""
    model: str | None
    stream: bool
    request: dict[str, object] | None
    """The JSON body that was sent; None for a GET."""
    status: int | None
    """None: the recording holds a request that was never answered."""
    headers: dict[str, str]
    body: str
    """The text of the answer: JSON, or a whole event stream."""

    @property
    def mime(self) -> str:
        """The media type of the answer; of a recording without headers, what its body looks like."""
        stated = self.headers.get("content-type")
        if stated is not None:
            return stated
        return "text/event-stream" if self.body.startswith(("data:", "event:", ":")) else "application/json"

    @property
    def last(self) -> str:
        """The last segment of the path, which names the operation."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def inference(self) -> bool:
        """Whether this is a call of a model: not the counting of tokens, not the retrieval of an old answer."""
        return self.method == "POST" and self.last not in {"count_tokens", "input_tokens"}


def folder() -> Path | None:
    """Return the folder of the corpus, or None where the environment names none."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def reason_to_skip() -> str | None:
    """Return why the corpus cannot be read, or None where it can."""
    place = folder()
    if place is None:
        return f"{VARIABLE} is not set: it names the folder of the recorded exchanges ({FILE})"
    return None if (place / FILE).is_file() else f"{VARIABLE} names {place}, where there is no {FILE}"


@functools.cache
def load() -> tuple[Exchange, ...]:
    """Return all exchanges, read once per process.

    Raises:
        RuntimeError: where `reason_to_skip` tells of one.
    """
    reason = reason_to_skip()
    place = folder()
    if reason is not None or place is None:
        raise RuntimeError(reason)
    with gzip.open(place / FILE, "rt", encoding="utf-8") as lines:
        return tuple(Exchange(**json.loads(line)) for line in lines)


def select(wanted: Callable[[Exchange], bool]) -> list[Exchange]:
    """Return the exchanges that `wanted` accepts, in the order of the corpus."""
    return [exchange for exchange in load() if wanted(exchange)]
