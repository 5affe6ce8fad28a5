"""Recorded text is untrusted: the report page displays it without interpreting it."""

from __future__ import annotations

import re

import pytest

from callspan.formatting import json_block, shown
from tests.datasets.conftest import World

from .conftest import Report
from .reading import Reading, data
from .worlds import HOSTILE, fill


@pytest.mark.parametrize("text", HOSTILE)
def test_no_recorded_text_becomes_markup(world: World, report: Report, text: str) -> None:
    fill(world, "harmless")
    expected = [tag for tag, _ in Reading(report()).elements]
    world.records.clear()
    fill(world, text)
    page = report()
    reading = Reading(page)
    assert [tag for tag, _ in reading.elements] == expected
    for _, attributes in reading.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "src"}]
    assert data(page)["rows"][1]["name"], "the rows are JSON still"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_is_left(world: World, report: Report, text: str) -> None:
    fill(world, text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2066-\u2069]", report())


def test_what_a_text_says_stays_readable() -> None:
    assert shown("a <b> \x1b[31mc\n d") == "a <b> \N{REPLACEMENT CHARACTER}[31mc d"
    assert shown("abcdef", 4) == "abc…"
    hostile = '{"a":"</script><!--&\u2028\u202e"}'.encode()
    assert json_block(hostile) == rb'{"a":"\u003c/script\u003e\u003c!--\u0026\u2028\u202e"}'
