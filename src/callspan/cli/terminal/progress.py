"""Progress: a bar on stderr for long work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from callspan.cli.terminal.safe_text import clean

UpdateProgress: TypeAlias = Callable[..., None]
"""`update(completed, total, title="calls")` sets the progress; `total` None: it is unknown."""


@contextmanager
def progress(title: str, *, visible: bool = True) -> Iterator[UpdateProgress]:
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
        disable=not visible or not sys.stderr.isatty(),
    )
    task = bars.add_task(title, total=None)

    def update(completed: int, total: int | None = None, title: str = title) -> None:
        bars.start()
        bars.update(task, completed=completed, total=total, description=clean(title))

    try:
        yield update
    finally:
        if bars.live.is_started:  # most versions of rich end what never began with an empty line
            bars.stop()
