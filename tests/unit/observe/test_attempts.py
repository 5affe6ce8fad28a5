"""The attempt log: each attempt in the record."""

from __future__ import annotations

import pytest

from callspan.observe.attempts import AttemptLog


@pytest.mark.parametrize(
    ("header", "retries"), [("0", 0), ("1", 1), ("2", 1), ("42", 1), ("", 1), (None, 1), ("-1", 1), ("one", 1)]
)
def test_the_sent_retry_count_is_used_if_it_is_plausible(header: str | None, retries: int) -> None:
    """0 with two requests: the second renewed a token and was no retry."""
    log = AttemptLog(lambda: 0, 0)
    log.started()
    log.started()
    log.sent_retries(header)
    assert log.fields(0, 2, None)["retries"] == retries
