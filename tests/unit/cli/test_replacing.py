"""A finished report or dataset never takes the place of a device, a pipe or a link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import ask, keep, made


@pytest.mark.parametrize("command", [["report"], ["export", "parquet"], ["export", "openai"]])
@pytest.mark.parametrize("kind", ["pipe", "link", "dangling"])
def test_what_is_no_file_is_left_as_it_is(store: str, tmp_path: Path, command: list[str], kind: str) -> None:
    keep(store, made())
    target = tmp_path / kind
    (tmp_path / "file").write_text("mine")
    if kind == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to("file" if kind == "link" else "nowhere")
    before = target.lstat()
    answer = ask("--store", store, *command, "-o", str(target))
    assert answer.code == 1
    assert "no file to replace" in answer.err
    assert (target.lstat().st_ino, target.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.glob("*.part"))
