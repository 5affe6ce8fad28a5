"""Progress: a bar on stderr for long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from callspan.cli.safe_text import clean

UpdateProgress: TypeAlias = Callable[..., None]
"""`update(done, of, what="calls")` sets the progress; `of` is the total, None if it is unknown."""


@contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[UpdateProgress]:
    """Yield the update function of a progress bar, which is shown from the first update to the end of the block.

    Without a terminal on stderr there is no bar.
    """
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(" of "),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown or not sys.stderr.isatty(),
    )
    task = bars.add_task(what, total=None)

    def update(done: int, of: int | None = None, what: str = what) -> None:
        bars.start()
        bars.update(task, completed=done, total=of, description=clean(what))

    try:
        yield update
    finally:
        bars.stop()
