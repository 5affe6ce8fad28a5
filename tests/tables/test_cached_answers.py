"""Who served an answer that nobody bought, by its headers and its body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from callspan.providers.cached_answers import HEADERS, stated_cache
from callspan.providers.rate_limits import relevant_headers

DATA: dict[str, Any] = json.loads(Path(__file__).with_name("cached_answers.json").read_text())


@pytest.mark.parametrize(("headers", "cache"), DATA["headers"])
def test_header_names_the_cache(headers: dict[str, str], cache: str | None) -> None:
    raw = [(name.title().encode(), value.encode()) for name, value in headers.items()]
    assert stated_cache(relevant_headers(raw), {}) == cache


def test_every_header_has_an_example() -> None:
    examples = {name for headers, cache in DATA["headers"] if cache for name in headers}
    assert examples == HEADERS


@pytest.mark.parametrize(("body", "cache"), DATA["bodies"])
def test_body_names_the_cache(body: object, cache: str | None) -> None:
    assert stated_cache({}, body) == cache
