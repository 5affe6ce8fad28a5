"""Lists that one can read: users, tags, metadata, lines of batches, and no padding."""

from __future__ import annotations

from callspan.record.call import Place

from .conftest import START_NS, ask, keep, made, session


def test_lists_show_what_was_given_whole_and_without_padding(anywhere: str) -> None:
    long = "x" * 150
    keep(
        anywhere,
        session("s", start_ns=START_NS, user_id="u1", metadata={"tags": ["a", "b"], "seed": 7}),
        made("c", place=Place(session_id="s"), metadata={"note": long}, batch_id="b", custom_id="line-7"),
    )
    tree = ask("--store", anywhere, "show", "s").out
    assert "tags=a,b  seed=7" in tree
    assert "line line-7" in tree
    assert "line-7" in ask("--store", anywhere, "calls").out
    call = ask("--store", anywhere, "show", "c").out
    assert long in "".join(line.strip() for line in call.splitlines())
    for shown in (tree, call, ask("--store", anywhere, "sessions", "--no-pager").out):
        assert [line for line in shown.splitlines() if line != line.rstrip()] == []
