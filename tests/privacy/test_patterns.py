"""Patterns: what searches texts of others takes time proportional to the text, for any text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from callspan.process.secrets import mask_settings, mask_text
from callspan.providers.error_kinds import classify
from callspan.providers.hosts import provider_of
from callspan.safe_urls import without_passwords
from callspan.sdk_profiles import PROFILES

SIZES: Final = (10_000, 40_000)
"""Lengths of texts."""
NOISE_S: Final = 0.02
SEEDS: Final = (
    # The beginnings of secrets and labels, and what nearly is one.
    "eyJ", "eyJaaaaaaaaa.", "eyJ-", "sk-", "AKIA", "bearer  ", "password ", "x-token", "api key provided ", "data:",
    "-----BEGIN PRIVATE KEY-----", "X-X-X-", "token: ", ">\n", "?a=", "&token", "eyJaaaaaaaa.aaaaaaaa-", "eyJa.",
    "sk-a ", 'password   "', "bearer ", "://a:", "?key", "&-token=", "gsk_", "xoxb-", "-----BEGIN A B C ", "ya29.",
    "Authorization: Bearer ", "secretsecret", "a.b-c_", "sk_live_", "Cookie:", "://", "a:@", "http://a",
    # What repetitions are made of.
    "bedrock.", "a", "A", "a ", " ", "\t", "\n", "\r\n", " \n", ".", "-", "_", "=", ":", '"', "'", "\\", "a-", "a_",
    "\ud800", "é", "exceed", "prompt is too ",
)  # fmt: skip
USES: Final[tuple[Callable[[str], object], ...]] = (
    mask_text,
    without_passwords,
    lambda text: mask_settings({"server_url": f"https://{text}", text: text}),
    lambda text: classify(400, text, text, text, text),
    lambda text: provider_of("OpenAI", text, PROFILES["openai"]),
)


def seconds(use: Callable[[str], object], text: str) -> float:
    """The least processor time of several runs."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        use(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("seed", SEEDS)
def test_searching_takes_time_in_proportion_to_the_text(seed: str) -> None:
    """Four times the text takes less than eight times the time, halfway from 4 to the 16 of a quadratic pattern."""
    short, long = (seed * (size // len(seed)) + "\x07" for size in SIZES)
    for use in USES:
        took = seconds(use, long)
        assert took <= NOISE_S or took <= 8 * seconds(use, short), (use, seed)
