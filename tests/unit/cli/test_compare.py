"""`callspan compare` and `sessions --by` on the command line, and `callspan.summary`."""

from __future__ import annotations

from .conftest import START_NS, ask, keep, session


def test_groups_are_named_by_key_and_value_or_an_experiment(anywhere: str) -> None:
    keep(
        anywhere,
        session("s1", start_ns=START_NS, experiment="one", name="a", outcome="success", metadata={"tags": ["x", "y"]}),
        session("s2", start_ns=START_NS, experiment="two", name="a", outcome="failure"),
    )
    answer = ask("--store", anywhere, "--json", "compare", "one", "two")
    assert (answer.json["a"], answer.json["b"]) == (
        {"group": "experiment=one", "sessions": 1}, {"group": "experiment=two", "sessions": 1},
    )  # fmt: skip
    assert answer.json["measures"][0] | {"low": None} == {
        "kind": "success", "measure": "success", "a": 1.0, "b": 0.0, "difference": -1.0, "low": None, "high": None,
        "n": [1, 1], "paired": False, "too_few": True,
    }  # fmt: skip
    assert ask("--store", anywhere, "compare", "tag=x", "=").code == 0
    assert "No session with experiment=three" in ask("--store", anywhere, "compare", "one", "three").err
    assert "not grouped by 'colour'" in ask("--store", anywhere, "compare", "colour=1", "=2").err
    assert ask("--store", anywhere, "compare", "colour=1", "=2").code == 2
    rows = ask("--store", anywhere, "--json", "sessions", "--by", "tag").json
    assert [(row["tag"], row["sessions"], row["successes"]) for row in rows] == [(None, 1, 0), ("x", 1, 1), ("y", 1, 1)]
    assert "is not one of" in ask("--store", anywhere, "sessions", "--by", "colour").err
