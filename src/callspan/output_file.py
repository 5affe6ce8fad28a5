"""Output files: replaced atomically; a device, pipe or stdout is written to and never replaced."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_STDOUT: Final = Path("-")


class Replacement:
    """A temporary file next to its target."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        """Where to write."""
        self._target = target

    def commit(self) -> None:
        """Replace the target by the finished file. Raises OSError."""
        self.path.replace(self._target)


@contextmanager
def replacement(target: Path) -> Iterator[Replacement]:
    """Yield a new private file (0600) that replaces the target on `commit`; without it the target stays.

    Raises OSError where the target must not be replaced: a device, a pipe, a directory, a symbolic link.
    """
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise OSError(errno.EINVAL, "a device, pipe, directory or link is not replaced", str(target))
    fresh = Replacement(target)
    try:
        fresh.path.unlink(missing_ok=True)
        os.close(os.open(fresh.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield fresh
    finally:
        fresh.path.unlink(missing_ok=True)


@contextmanager
def written_to(output: Path) -> Iterator[Path]:
    """Yield the path to write within the block; `-`, a pipe or a device gets a copy of what was written afterwards.

    Raises OSError where it takes nothing.
    """
    if not is_stream(output):
        yield output
        return
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "output"
        yield made
        if made.exists():
            _copy(made, output)


def is_stream(output: Path) -> bool:
    """Return whether the output is stdout, a device, a pipe or a link, which is written to and never replaced."""
    if output == _STDOUT or output.is_symlink():
        return True
    return output.exists() and not output.is_file() and not output.is_dir()


def _copy(made: Path, output: Path) -> None:
    with made.open("rb") as source:
        if output == _STDOUT:
            sys.stdout.flush()
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with output.open("wb") as target:
            shutil.copyfileobj(source, target)
