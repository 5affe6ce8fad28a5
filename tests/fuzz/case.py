"""Cases: one use of an SDK, the answers it gets and how the caller consumes them, as plain data that can be kept."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Chunk:
    """One piece of a body, as the transport hands it out."""

    data: str = ""
    """The bytes, one character each (latin-1)."""
    wait: int = 0
    """Turns of the event loop before it comes."""
    error: str | None = None
    """An exception that comes in its place."""
    stall: bool = False
    """It does not come until the caller is cancelled (async only)."""


@dataclass
class Answer:
    """One HTTP response, or the error a request meets in place of one."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    error: str | None = None


@dataclass
class Act:
    """One thing the caller does with what he has."""

    name: str
    count: int = 0


@dataclass
class Case:
    """Everything that is needed to run it again."""

    sdk: str
    way: str
    wrap: str = "none"
    """none, raw (`with_raw_response`) or streaming (`with_streaming_response`)."""
    colour: str = "sync"
    request: str = "plain"
    retries: int = 0
    answers: list[Answer] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    leave: str = "exit"
    """How a `with` block is left: exit, or raise."""
    where: str = "here"
    """Where the result is consumed: here, or in another thread or task."""
    cancel: bool = False
    """Whether an async caller is cancelled once the answer stalls."""
    wire: str = "memory"
    """memory (a transport of ours) or socket (a server on loopback, with the HTTP library's own transport)."""
    profile: str = "default"
    """Which settings callspan has."""

    def blob(self) -> str:
        """Return the case as one word for a command line."""
        return base64.urlsafe_b64encode(zlib.compress(json.dumps(asdict(self)).encode(), 9)).decode()


def _answer(headers: list[list[str]], chunks: list[dict[str, Any]], **fields: Any) -> Answer:
    return Answer(headers=[(name, value) for name, value in headers], chunks=[Chunk(**c) for c in chunks], **fields)


def from_dict(data: dict[str, Any]) -> Case:
    """Return the case that `asdict` made plain."""
    answers = [_answer(**answer) for answer in data["answers"]]
    return Case(**{**data, "answers": answers, "acts": [Act(**act) for act in data["acts"]]})


def from_blob(blob: str) -> Case:
    """Return the case of a blob. Raises ValueError for what is none."""
    try:
        return from_dict(json.loads(zlib.decompress(base64.urlsafe_b64decode(blob))))
    except (zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"not the blob of a case: {error}") from error
