"""The pytest plugin: tests run on recorded answers, offline and without keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import ran

from callspan.records import decode
from callspan.testing import ScriptedProvider

TESTS = """
from decimal import Decimal
import openai, pytest

def ask(question, system="Be brief."):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    answer = openai.OpenAI(max_retries=0).chat.completions.create(model="gpt-5", messages=messages)
    return answer.choices[0].message.content

def test_refund(llm):
    assert ask("A refund?") == "Yes."
    (call,) = llm.calls
    assert (call.text, call.usage.input_tokens, llm.cost_usd > 0) == ("Yes.", 12, True)

@pytest.mark.parametrize("city", ["Oslo", "a/b"])
def test_cities(llm, city):
    assert [ask(city), ask("Again?")] == ["Cold.", "Still."]
    assert len(llm.calls) == 2
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["callspan.testing.pytest_plugin"]')
    (tmp_path / "test_support.py").write_text(TESTS)
    return tmp_path


def run(suite: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    variables = {"HOME": str(suite), "CI": ""} | environment
    return ran(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        *arguments,
        cwd=suite,
        code=code,
        **variables,
    ).stdout


def record(suite: Path) -> None:
    with ScriptedProvider() as provider:
        for text in ("Yes.", "Cold.", "Still.", "Cold.", "Still."):
            provider.reply(text=text)
        run(suite, "--callspan=record", OPENAI_BASE_URL=provider.openai_url, OPENAI_API_KEY="sk-of-the-user-123456")
        assert len(provider.requests) == 5


def test_recorded_suite_passes_offline_without_keys(suite: Path) -> None:
    record(suite)
    names = sorted(path.name for path in (suite / "cassettes").iterdir())
    cities = [f"test_support.test_cities_{city}.jsonl" for city in ("Oslo", "a_b")]
    assert names == [*cities, "test_support.test_refund.jsonl"]
    lines = (suite / "cassettes" / cities[0]).read_bytes().splitlines()
    assert [decode(line).text for line in lines] == ["Cold.", "Still."]  # type: ignore[union-attr]
    assert not any(b"sk-of-the-user" in path.read_bytes() for path in (suite / "cassettes").iterdir())
    assert "3 passed" in run(suite, CI="true")


def test_changed_prompt_is_named(suite: Path) -> None:
    record(suite)
    (suite / "test_support.py").write_text(TESTS.replace("A refund?", "A rebate?"))
    said = run(suite, "-k", "refund", code=1)
    assert "differs at messages[1].content" in said
    assert "1 failed" in said


def test_call_that_is_no_longer_made_fails_its_test(suite: Path) -> None:
    record(suite)
    (suite / "test_support.py").write_text(
        TESTS.replace(', ask("Again?")] == ["Cold.", "Still."]', '] == ["Cold."]').replace(" == 2", " == 1")
    )
    assert "1 recorded calls were not made: record test_support.test_cities_Oslo.jsonl anew" in run(suite, code=1)


def test_test_without_a_cassette_says_what_to_run(suite: Path) -> None:
    said = run(suite, "-k", "refund", code=1)
    assert "test_support.test_refund.jsonl: run the test once with --callspan=record" in said


def test_nothing_is_recorded_in_ci(suite: Path) -> None:
    with ScriptedProvider() as provider:
        address = provider.openai_url
        said = run(suite, "--callspan=record", code=1, CI="true", OPENAI_BASE_URL=address, OPENAI_API_KEY="k")
        assert provider.requests == []
    assert "--callspan=record is not for CI" in said


def test_live_suite_writes_no_cassette(suite: Path) -> None:
    with ScriptedProvider() as provider:
        provider.reply(text="Yes.")
        run(suite, "-k", "refund", "--callspan=live", OPENAI_BASE_URL=provider.openai_url, OPENAI_API_KEY="k")
        assert len(provider.requests) == 1
    assert not (suite / "cassettes").exists()
