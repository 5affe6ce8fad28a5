"""Routes: every pattern is found by a path made from it, and by nothing else."""

from __future__ import annotations

import pytest

from callspan.providers.routes import ROWS, Path, find

PATHS = [path for row in ROWS for path in row.paths]


@pytest.mark.parametrize("before", ["", "/", "https://gateway.example.com/v1/", "/openai/v1/"])
def test_every_pattern_is_found_by_its_own_path_with_the_ids_in_it(before: str) -> None:
    for path in PATHS:
        if "^" in path.pattern and "gateway" in before:
            continue
        method, _, pattern = path.pattern.replace("^", "").partition(" ")
        names = [segment[1:-1] for segment in pattern.split("/") if segment.startswith("{")]
        filled = pattern.replace("{", "x%20").replace("}", "")
        found = find(method.lower(), f"{before}{filled}?limit=3")
        assert found is not None, path
        assert (found.path, dict(found.ids)) == (path, {name: f"x {name}" for name in names})


def test_no_pattern_is_there_twice() -> None:
    assert len({path.pattern for path in PATHS}) == len(PATHS)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/vector_stores/v1/files", "/containers/c/files/f/content", "/messages", "/sessions", "/x/threads/y"],
)
def test_a_path_of_another_resource_is_not_found(path: str) -> None:
    assert (find("post", path), find("get", path)) == (None, None)


def test_a_whole_path_is_anchored_and_the_longest_pattern_wins() -> None:
    assert find("get", "/files/f1/content") == (Path("GET ^files/{file}/content", "results"), {"file": "f1"})
    counted = find("POST", "/v1/messages/count_tokens")
    assert counted is not None
    assert counted.path.pattern == "POST messages/count_tokens"
