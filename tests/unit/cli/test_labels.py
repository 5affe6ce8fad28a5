"""`--user`, `--name`, `--meta` and their like on the commands; users and metadata in what these show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.records import Attempt, Place, Response, TimestepRecord
from callspan.testing import ScriptedProvider
from tests.reports.reading import data, entries

from .conftest import START_NS, ask, keep, made, session


@pytest.fixture
def full(anywhere: str) -> str:
    first = {"name": "grid", "user_id": "u1", "group_id": "g1", "task_id": "t1", "experiment": "x1"}
    return keep(
        anywhere,
        session("session-a", start_ns=START_NS, **first, metadata={"seed": 7}),
        session("session-b", start_ns=START_NS, name="chat", metadata={"seed": 8}),
        TimestepRecord(timestep_id="t-1", session_id="session-a", seen_ns=1, index=0, user_step_id="my-step"),
        made(
            "call-a",
            trace_id="a" * 32,
            place=Place(session_id="session-a", session_name="grid", timestep_id="t-1"),
            metadata={"user_id": "u1", "extra": {"variant": "b"}},
            response=Response(id="msg_1"),
            attempts=[Attempt(number=1, start_ns=0, request_id="req_1")],
        ),
        made("call-b", place=Place(session_id="session-b")),
        made("call-c"),
    )


@pytest.mark.parametrize(
    ("options", "calls", "sessions"),
    [
        (["--user", "u1"], ["call-a"], ["session-a"]),
        (["--name", "chat"], ["call-b"], ["session-b"]),
        (["--group", "g1"], ["call-a"], ["session-a"]),
        (["--experiment", "x1", "--task", "t1"], ["call-a"], ["session-a"]),
        (["--meta", "seed=8"], ["call-b"], ["session-b"]),
        (["--meta", "seed=7", "--meta", "variant=b"], ["call-a"], []),
        (["--step", "my-step"], ["call-a"], ["session-a"]),
        (["--user", "nobody"], [], []),
    ],
)
def test_calls_and_sessions_are_chosen(full: str, options: list[str], calls: list[str], sessions: list[str]) -> None:
    answer = ask("--store", full, "--json", "calls", *options)
    assert [row["call_id"] for row in answer.json] == calls
    assert answer.code == (0 if calls else 1)
    answer = ask("--store", full, "--json", "sessions", *options)
    assert [row["session_id"] for row in answer.json] == sessions
    assert answer.code == (0 if sessions else 1)
    assert ask("--store", full, "--json", "stats", *options).code == (0 if calls else 1)


def test_calls_are_summed_by_user_name_experiment_and_metadata(full: str) -> None:
    for by, expected in (("user", "u1"), ("name", "grid"), ("experiment", "x1"), ("meta:seed", "7")):
        rows = ask("--store", full, "--json", "stats", "--by", by).json
        assert expected in {row[by] for row in rows}
        assert sum(row["calls"] for row in rows) == 3
        assert expected in ask("--store", full, "stats", "--by", by).out


def test_a_comma_separates_keys_but_not_within_a_key_of_metadata(full: str) -> None:
    keep(full, made("call-d", metadata={"a,b": "1", "user_id": "u2"}))
    twice = ask("--store", full, "--json", "stats", "--by", "user", "--by", "model").json
    assert ask("--store", full, "--json", "stats", "--by", "user, model").json == twice
    rows = ask("--store", full, "--json", "stats", "--by", "meta:a,b,user").json
    assert {"meta:a,b": "1", "user": "u2"}.items() <= next(row for row in rows if row["user"] == "u2").items()
    for by in ("user,", ",", "user,modle"):
        answer = ask("--store", full, "stats", "--by", by)
        assert (answer.code, "is not one of" in answer.err) == (2, True), by


def test_wrong_groupings_and_metadata_are_wrong_usage(full: str) -> None:
    answer = ask("--store", full, "stats", "--by", "experimnt")
    assert answer.code == 2
    assert "Did you mean 'experiment'?" in answer.err
    answer = ask("--store", full, "calls", "--meta", "seed")
    assert answer.code == 2
    assert "write key=value" in answer.err
    assert "--experiment" in ask("--store", full, "calls", "--experimnt", "x").err


def test_lists_show_who_and_what_for(full: str, tmp_path: Path) -> None:
    row = next(row for row in ask("--store", full, "--json", "calls").json if row["call_id"] == "call-a")
    assert row["user"] == "u1"
    assert row["metadata"] == {"user_id": "u1", "extra": {"variant": "b"}}
    assert (row["response_id"], row["request_id"]) == ("msg_1", "req_1")
    assert "u1" in ask("--store", full, "calls").out
    assert "u1" in ask("--store", full, "sessions").out
    tree = ask("--store", full, "show", "session-a").out
    assert "user=u1  group=g1  task=t1  experiment=x1  seed=7" in " ".join(tree.split("\n"))
    assert "step 0 (my-step)" in tree
    page = tmp_path / "page.html"
    assert ask("--store", full, "report", "-o", str(page), "--user", "u1").code == 0
    assert [row["user"] for row in data(page.read_text())["rows"]] == ["u1"]
    assert "session-b" not in page.read_text()


@pytest.mark.parametrize("known", ["msg_1", "req_1", "a" * 32])
def test_show_finds_what_the_provider_and_the_trace_call_it(full: str, known: str) -> None:
    answer = ask("--store", full, "show", known)
    assert answer.code == 0
    assert "call-a" in answer.out
    assert "\nresponse    msg_1\nrequest     req_1\n" in answer.out
    assert '"variant":"b"' in answer.out


@pytest.mark.parametrize("known", ["my-step", "t-1"])
def test_show_finds_the_session_of_a_step(full: str, known: str) -> None:
    answer = ask("--store", full, "--json", "show", known)
    assert answer.json["session_id"] == "session-a"
    assert answer.json["steps"][0]["user_step_id"] == "my-step"


def test_completion_offers_groupings() -> None:
    from click.shell_completion import ShellComplete

    from callspan.cli.commands import callspan

    found = ShellComplete(callspan, {}, "callspan", "_CALLSPAN_COMPLETE").get_completions(["stats", "--by"], "ex")
    assert [one.value for one in found] == ["experiment"]
    found = ShellComplete(callspan, {}, "callspan", "_CALLSPAN_COMPLETE").get_completions(["calls"], "--me")
    assert "--meta" in {one.value for one in found}


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
        (["--meta", "seed=7"], ["in-u1", "in-u2"]),
        (["--meta", "seed=7", "--meta", "of=u2"], ["in-u2"]),
        (["--name", "n-u1"], ["in-u1"]),
        (["--group", "g-u2"], ["in-u2"]),
        (["--experiment", "e-u1"], ["in-u1"]),
        (["--task", "t-u2"], ["in-u2"]),
        (["--user", "u1", "--task", "t-u2"], []),
        (["--session", "s-u1", "--user", "u1"], ["in-u1"]),
        (["--session", "s-u1", "--user", "u2"], []),
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


def test_lists_and_trees_mark_responses_that_were_not_recognized(anywhere: str) -> None:
    """A body of which nothing is known is no empty success."""
    place = Place(session_id="session-a")
    keep(anywhere, session("session-a"), made("call-a", place=place, response=Response(unrecognized=True)))
    assert "success, not recognized" in ask("--store", anywhere, "calls").out
    assert "success, not recognized" in ask("--store", anywhere, "show", "session-a").out


def test_a_report_has_other_rewards_users_metadata_and_streams_that_were_cut_off(recorded: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert ask("--store", recorded, "report", "-o", str(page)).code == 0
    (one,) = [row for row in data(page.read_text())["rows"] if row["id"] == "s-u1"]
    assert (one["reward"], one["scores"]["style"]["mean"], one["user"]) == (1.0, 0.5, "u1")
    assert one["metadata"] == {"seed": 7, "of": "u1"}
    calls = {call["model"]: call["cut_off"] for some in entries(page.read_text()).values() if (call := some[0]["call"])}
    cut = {one["call"]["model"] for one in entries(page.read_text())[""] if one["call"]["cut_off"]}
    assert (cut, calls["in-u1"]) == ({"cut"}, False)
