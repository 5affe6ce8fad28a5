"""Lists that one can read: users, tags, metadata, lines of batches, and no padding."""

from __future__ import annotations

import json

import pytest

from callspan.records import Place, Request

from .conftest import START_NS, ask, keep, made, session


def test_lists_show_what_was_given_whole_and_without_padding(anywhere: str) -> None:
    long = "x" * 150
    keep(
        anywhere,
        session("s", start_ns=START_NS, user_id="u1", metadata={"tags": ["a", "b"], "seed": 7}),
        made(
            "c",
            place=Place(session_id="s"),
            request=Request(model="gpt-5", params={"stop": f"y{long}"}),
            metadata={"note": long, "tags": ["a", "b"]},
            batch_id="b",
            custom_id="line-7",
        ),
    )
    tree = ask("--store", anywhere, "show", "s").out
    assert "tags=a,b  seed=7" in tree
    assert "line line-7" in tree
    assert "line-7" in ask("--store", anywhere, "calls").out
    call = ask("--store", anywhere, "show", "c").out
    whole = "".join(line.strip() for line in call.splitlines())
    assert f'{{"note":"{long}","tags":["a","b"]}}' in whole
    assert f'{{"stop":"y{long}"}}' in whole
    assert max(map(len, call.splitlines())) <= 100
    for shown in (tree, call, ask("--store", anywhere, "sessions").out):
        assert [line for line in shown.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize("option", [["--json"], ["--store"]])
def test_global_options_stand_anywhere(anywhere: str, option: list[str]) -> None:
    keep(anywhere, session("s", start_ns=START_NS))
    named = [*option, anywhere] if option == ["--store"] else option
    store = [] if option == ["--store"] else ["--store", anywhere]
    before, after = ask(*store, *named, "sessions"), ask(*store, "sessions", *named)
    assert before == after
    assert before.code == 0
    assert json.loads(before.out) if option == ["--json"] else "s" in before.out
