"""Patterns: every compiled pattern takes time proportional to the text, for any text."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import pytest

import callspan
from tests.support.machine import slowness
from tests.support.scale import FULL, scaled

SIZES: Final = scaled((2_000, 8_000), (250_000, 4_000_000))
"""Lengths of texts."""
MILLION: Final = (1_000_000, 1_000_000)
NOISE_S: Final = scaled(0.003, 0.2)
"""Less than this for the longer text is not looked at: 50 ms per million characters, or what no clock can tell."""
_RUNS_APART: Final = ("__main__", "autostart")
MATCHED: Final = {"callspan.settings._URL_START": ("match",), "callspan.cli.values._DURATION": ("fullmatch",)}
"""What is used in one way only; searching by these would be quadratic."""
BOUNDED: Final = ("callspan.providers.hosts._PATTERNS",)
"""What is asked of texts that are short: host names, of at most 253 characters."""
MASKING: Final = "callspan.process.secrets."
"""What searches whole texts on the caller's thread."""
OF_NAMES: Final = tuple(f"{MASKING}{name} " for name in ("_WORD_BREAK", "_SECRET_NAME", "_PLAIN_SEGMENT"))
"""Those of them that are asked of names and of segments of paths only."""

SEEDS: Final = (
    # The beginnings of secrets and labels, and what nearly is one.
    "eyJ", "eyJaaaaaaaaa.", "eyJ-", "sk-", "AKIA", "bearer  ", "password ", "x-token", "api key provided ", "data:",
    "-----BEGIN PRIVATE KEY-----", "X-X-X-", "token: ", ">\n", "data:;a=b", "data:a/b;base64,", "?a=", "&token",
    "eyJaaaaaaaa.aaaaaaaa-", "eyJa.", "sk-a ", 'password   "', "bearer ", "://a:", "?key", "&-token=", "gsk_", "xoxb-",
    "-----BEGIN A B C ", "ya29.", "Authorization: Bearer ", "secretsecret", "a.b-c_", "sk_live_", "Cookie:",
    # Parts of URLs, hosts and numbers.
    "://", "a:@", "http://a", "bedrock-", "bedrock.", "aiplatform.", "-aiplatform.a.rep.", "1.", "0", "1h", "1ms",
    # What repetitions are made of.
    "a", "A", "a ", " ", "\t", "\n", "\r\n", " \n", ".", "-", "_", "=", ":", ",", '"', "'", "\\", "[", "{", "(", "/",
    "a-", "a.", "a_", "ab1 ", ":a", "c.", "Code: ", "\x1a1", "\x1a1,", "\x1b[", "\x00", "\ud800", "é", "😀", "\u200b",
    "exceed", "prompt is too ", "python", "/completions", "/model/a", "models/a:", "/responses/a", "a+b", "%41",
)  # fmt: skip


def modules() -> Iterable[Any]:
    """Every module of the package, imported."""
    for found in pkgutil.walk_packages(callspan.__path__, "callspan."):
        if not any(word in found.name for word in _RUNS_APART):
            importlib.import_module(found.name)
    return (module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] == "callspan")


def within(value: object, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """The patterns in a value: the value itself, or those in its tables, their rows and fields."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 4 and isinstance(value, Mapping):
        yield from (one for part in (*value.keys(), *value.values()) for one in within(part, depth + 1))
    elif depth < 4 and isinstance(value, tuple | list | set | frozenset):
        yield from (one for part in value for one in within(part, depth + 1))
    elif depth < 4 and type(value).__module__.startswith("callspan.") and hasattr(value, "__dict__"):
        yield from (one for part in vars(value).values() for one in within(part, depth + 1))


@cache
def patterns() -> dict[str, re.Pattern[Any]]:
    """Every pattern by where it is and what it says."""
    known: dict[int, tuple[str, re.Pattern[Any]]] = {}
    for module in modules():
        for name, value in list(vars(module).items()):
            for number, pattern in enumerate(within(value)):
                known.setdefault(id(pattern), (f"{module.__name__}.{name} {number}", pattern))
    return dict(known.values())


def texts_of(pattern: re.Pattern[Any], seed: str, sizes: tuple[int, int]) -> list[tuple[Any, Any]]:
    """The shorter and the longer text made of a seed, of the pattern's kind; the end matches nothing."""
    short, long = (seed * (size // len(seed)) + "\x07" for size in sizes)
    if isinstance(pattern.pattern, bytes):
        return [(short.encode("utf-8", "replace"), long.encode("utf-8", "replace"))]
    return [(short, long)]


def seconds(pattern: re.Pattern[Any], ways: tuple[str, ...], text: Any, runs: int) -> float:
    """The least processor time of several runs of the methods by which a pattern is used."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        for way in ways:
            found = getattr(pattern, way)(text)
            if way == "finditer":
                deque(found, maxlen=0)
        taken.append(time.process_time() - began)
    return min(taken)


def test_the_patterns_of_the_package_are_found() -> None:
    places = {name.rpartition(".")[0] for name in patterns()}
    assert len(patterns()) > 100
    known = ("process.secrets", "safe_urls", "process.media_references", "stores.bodies")
    assert {f"callspan.{name}" for name in known} <= places
    assert any(name.startswith("callspan.testing.provider.rendering") for name in places), "in rows of a table"
    assert len(SEEDS) >= 30


def test_what_is_quadratic_is_found() -> None:
    with pytest.raises(AssertionError):
        in_proportion("quadratic", re.compile(r"(?=a)a*b"), "a", at_least_s=0.0, sizes=(1_000, 32_000))


def in_proportion(
    name: str, pattern: re.Pattern[Any], seed: str, at_least_s: float = NOISE_S, sizes: tuple[int, int] = SIZES
) -> None:
    """Assert that n times the text takes less than n√n times the time, halfway from n to the n² of a quadratic pattern.

    A linear one takes somewhat more than n: its state for a long text has to be allocated.
    """
    at_most = (sizes[1] / sizes[0]) ** 1.5
    ways = MATCHED.get(name.rpartition(" ")[0], ("match", "fullmatch", "finditer"))
    for short, long in texts_of(pattern, seed, sizes):
        if seconds(pattern, ways, long, 1) > at_least_s and (took := seconds(pattern, ways, long, 3)) > at_least_s:
            assert took <= at_most * seconds(pattern, ways, short, 3) + NOISE_S / 4, (name, pattern.pattern, seed)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", scaled(SEEDS[::4], SEEDS))
def test_every_pattern_takes_time_in_proportion_to_the_text(seed: str) -> None:
    for name, pattern in patterns().items():
        if not name.startswith(BOUNDED):
            in_proportion(name, pattern, seed)


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not FULL, reason="takes a minute: CALLSPAN_SCALE=full")
@pytest.mark.parametrize("seed", SEEDS)
def test_masking_by_a_pattern_takes_at_most_50_ms_per_million_characters(seed: str) -> None:
    for name, pattern in patterns().items():
        if name.startswith(MASKING) and not name.startswith(OF_NAMES):
            in_proportion(name, pattern, seed, at_least_s=0.02)
            bar_s = 0.05 * slowness()
            assert seconds(pattern, ("finditer",), texts_of(pattern, seed, MILLION)[0][0], 5) <= bar_s, (name, seed)
