"""A finished report or dataset never takes the place of a device, a pipe or a link."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from callspan.datasets import export
from callspan.stores.urls import open_store
from callspan.view.report import write_report

from .conftest import ask, keep, made


@pytest.mark.parametrize("target", ["pipe", "link", "dangling"])
def test_neither_library_function_replaces_it(store: str, tmp_path: Path, target: str) -> None:
    keep(store, made())
    path = _made(tmp_path, target)
    before = path.lstat()
    reader = open_store(store)
    with pytest.raises(OSError, match="is not replaced"):
        write_report(reader, path)
    with pytest.raises(OSError, match="is not replaced"):
        export(reader, "openai", path)
    reader.close()
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert not list(tmp_path.glob("*.part"))


def test_the_command_writes_to_it(store: str, tmp_path: Path) -> None:
    keep(store, made())
    for kind in ("link", "dangling"):
        link = _made(tmp_path, kind)
        assert ask("--store", store, "report", "-o", str(link)).code == 0
        assert link.is_symlink()
        assert link.read_text().lower().startswith("<!doctype html")
    assert (tmp_path / "nowhere").stat().st_mode & 0o777 == 0o600
    pipe = _made(tmp_path, "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        assert ask("--store", store, "report", "-o", str(pipe)).code == 0
        assert read.result(20).rstrip().endswith("</html>")
    assert pipe.is_fifo()


def _made(directory: Path, kind: str) -> Path:
    path = directory / kind
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (directory / "file").write_text("mine")
        path.symlink_to("file" if kind == "link" else "nowhere")
    return path
