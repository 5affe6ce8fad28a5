"""Output file: where `export` and `report` write: a file that appears when it is whole, or stdout and the like."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_STDOUT: Final = Path("-")


@contextmanager
def written_to(output: Path) -> Iterator[Path]:
    """Yield the path to write within the block. What is no regular file (`-`, a pipe, /dev/stdout) gets it afterwards.

    A device or pipe is written to and never replaced. Raises OSError where it takes nothing.
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
    """Return whether the output is stdout, a device, a pipe or a link: it is written to, and never replaced."""
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
