"""The setting `prices`: a wrong file is an error at `instrument()`, a right one prices every call."""

from __future__ import annotations

from pathlib import Path

import pytest

import callspan
from callspan import SettingError


@pytest.mark.parametrize("content", ["{", '{"models": {"m": {"input": "-1"}}}'])
def test_a_price_file_that_is_wrong_is_an_error_at_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(SettingError, match=r"prices\.json"):
        callspan.instrument(prices=path)
