"""`callspan export` and `callspan report`: what they write, where, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import ScriptedProvider
from tests.support.commands import ask
from tests.support.records import keep

from .conftest import chat_call


def test_a_place_that_cannot_be_written_is_named(store: str, tmp_path: Path) -> None:
    keep(store, chat_call("a"))
    for command in (["export", "openai"], ["report"]):
        output = tmp_path / "no" / "such" / "file"
        answer = ask("--store", store, *command, "-o", str(output))
        assert (answer.code, answer.err.replace("\n", "")) == (1, f"Error: {output}: No such file or directory")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sessions of two users with a call each, calls outside of them, and what a report shows of all this."""
    store = f"sqlite:///{tmp_path_factory.mktemp('labels') / 'calls.db'}"
    with ScriptedProvider() as provider, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        handle = callspan.instrument(stores=store)

        def call(model: str, **options: Any) -> Any:
            return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], **options)

        try:
            for user in ("u1", "u2"):
                about = {"group_id": f"g-{user}", "task_id": f"t-{user}", "experiment": f"e-{user}"}
                metadata = {"seed": 7, "of": user}
                with callspan.session(
                    f"n-{user}", session_id=f"s-{user}", user_id=user, metadata=metadata, **about
                ) as one:
                    with one.timestep() as step:
                        call(f"in-{user}")
                        step.reward(0.5, objective="style")
                    one.outcome(reward=1.0)
                with callspan.metadata(user_id=user, of=user):
                    call(f"out-{user}")
            provider.reply(text="one two three four", end_after=3)
            list(call("cut", stream=True))
        finally:
            handle.uninstrument()
    return store


EVERY = ["cut", "in-u1", "in-u2", "out-u1", "out-u2"]


@pytest.mark.parametrize(
    ("options", "models"),
    [
        ([], EVERY),
        (["--user", "u1"], ["in-u1", "out-u1"]),
        (["--meta", "of=u2"], ["in-u2", "out-u2"]),
        (["--meta", "seed=7", "--meta", "of=u2"], ["in-u2"]),
        (["--session", "s-u1", "--user", "u2"], []),
        (["--success", "--min-score", "0.4", "--objective", "style"], ["in-u1", "in-u2"]),
    ],
)
def test_an_export_has_what_the_labels_select(
    recorded: str, options: list[str], models: list[str], tmp_path: Path
) -> None:
    """The filters of the lists: sessions with their calls, and calls outside of sessions."""
    output = tmp_path / "rows.jsonl"
    output.unlink(missing_ok=True)
    answer = ask("--store", recorded, "export", "openai", "-o", str(output), "--metadata", *options)
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    assert sorted(row["metadata"]["model"] for row in rows) == models, answer.err
    assert answer.code == (0 if models else 1)
    said = " ".join(answer.out.split())
    assert said.startswith(f"{len(rows)} row" if rows else "no rows, nothing written")
    assert (" written to " in said) == bool(rows)
