"""Cases: one use of an SDK, the answers it gets and how the caller consumes them, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


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
