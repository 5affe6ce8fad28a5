"""Output files: a file is replaced atomically; stdout is written to."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_STDOUT: Final = Path("-")


class Replacement:
    """A temporary file next to its target."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target

    def commit(self) -> None:
        """Replace the target by the finished file. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # or a power failure leaves an empty file in the place of the one before
        finally:
            os.close(descriptor)
        self.path.replace(self._target)


@contextmanager
def replacement(target: Path) -> Iterator[Replacement]:
    """Yield a new private file (0600) that replaces the target on `commit`.

    Raises OSError if the target must not be replaced: a device, a pipe, a directory, a symbolic link.
    """
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise OSError(errno.EINVAL, "a device, pipe, directory or link is not replaced", str(target))
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".callspan-", suffix=".part")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None
    os.close(descriptor)
    new_file = Replacement(Path(name), target)
    try:
        yield new_file
    finally:
        new_file.path.unlink(missing_ok=True)


@contextmanager
def written_to(output: Path, sources: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield the path to write to; for `-` a temporary file that is copied to stdout afterwards.

    Raises OSError if the output is one of the `sources` that are read.
    """
    if not is_stdout(output):
        if any(_is_same(output, source) for source in sources):
            raise OSError(errno.EINVAL, "the store itself; name another file", str(output))
        yield output
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "output"
        yield file
        if file.exists():
            _print(file)


def _is_same(path: Path, other_path: Path) -> bool:
    return path.exists() and other_path.exists() and path.samefile(other_path)


def is_stdout(output: Path) -> bool:
    """Return whether the output is `-`."""
    return output == _STDOUT


def _print(file: Path) -> None:
    sys.stdout.flush()
    with file.open("rb") as source:
        shutil.copyfileobj(source, sys.stdout.buffer)
    sys.stdout.buffer.flush()
