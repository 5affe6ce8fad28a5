"""The recipe for a rating, run to its end: a filter finds it, and a comparison counts it."""

from __future__ import annotations

from pathlib import Path

import openai

import callspan
from callspan.testing import ScriptedProvider
from tests.documents.pages import ROOT, examples
from tests.unit.cli.conftest import ask

RECIPE = 'callspan.feedback(page["call_id"], label="thumbs_up"'


def test_a_rating_of_the_page_is_found_and_compared(tmp_path: Path) -> None:
    (recipe,) = [one.code for one in examples(ROOT / "docs/evaluation.md") if RECIPE in one.code]
    store = f"sqlite:///{tmp_path / 'calls.db'}"
    handle = callspan.instrument(stores=store)
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        for number in range(3):
            for label, experiment in (("thumbs_up", "liked"), ("thumbs_down", "disliked")):
                rated = recipe.replace("thumbs_up", label).replace('task_id="t9"', f'task_id="t{number}"')
                with callspan.metadata(experiment=experiment):
                    exec(rated, {"callspan": callspan, "client": client})
    assert handle.force_flush()
    handle.uninstrument()

    liked = ask("--store", store, "calls", "--label", "thumbs_up", "--json").json
    best = ask("--store", store, "calls", "--objective", "feedback", "--min-score", "1", "--json").json
    assert len(liked) == 3
    assert {row["call_id"] for row in liked} == {row["call_id"] for row in best}
    compared = ask("--store", store, "compare", "meta:experiment=liked", "=disliked", "--json").json
    (feedback,) = [row for row in compared["measures"] if row["measure"] == "feedback"]
    assert (feedback["a"], feedback["b"], feedback["n"]) == (1.0, 0.0, [3, 3])
