"""The oracle is independent and reads the corpus correctly."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.wire import corpus, facts, oracle
from tests.wire.corpus import Exchange

HERE = Path(__file__).parent
INDEPENDENT = ("corpus", "sse", "facts", "folding", "oracle", "entries", "replay")


@pytest.mark.parametrize("name", INDEPENDENT)
def test_the_oracle_and_what_it_uses_import_nothing_of_callspan(name: str) -> None:
    tree = ast.parse((HERE / f"{name}.py").read_text("utf-8"))
    imported = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module.split(".")[0] == "callspan"}
    ours = {module.removeprefix("tests.wire.") for module in imported if module.startswith("tests.wire.")}
    assert ours <= set(INDEPENDENT)


def test_every_exchange_is_read_and_answers_of_models_state_their_model(exchanges: tuple[Exchange, ...]) -> None:
    """Anchors of the corpus, counted over the raw text and not by the oracle."""
    read = [(each, oracle.truth(each)) for each in exchanges]
    assert len(read) == (961 if corpus.IS_WHOLE else 221)
    complete = [found for each, found in read if each.status == 200 and each.inference and each.body]
    # Three compactions, Ollama's native embedding, Writer's bare stream and an error under status 200 name no model.
    assert sum(found.response_model is None for found in complete) == 6
    # 22 by their status, one within a stream, one in a body under status 200.
    assert sum(found.error_type is not None for _, found in read) == 24


def test_no_fact_is_vacuous_every_one_is_reported_by_some_exchange(exchanges: tuple[Exchange, ...]) -> None:
    read = [oracle.truth(each) for each in exchanges]
    stated = {name for found in read for name in facts.NAMES if facts.judge(getattr(found, name), None) is not None}
    assert set(facts.NAMES) - stated == set()
