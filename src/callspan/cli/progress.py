"""Progress: a bar on stderr while something long runs; none where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from callspan.cli.frame import Frame
from callspan.cli.screen import clean

Tell: TypeAlias = Callable[..., None]
"""`tell(done, of, what="calls")`: how far it is; `of=None` where the end is not known."""


@contextmanager
def progress(frame: Frame, what: str) -> Iterator[Tell]:
    """Show a bar while the block runs, and yield how to move it; nothing is shown where stderr is no terminal."""
    console = Console(stderr=True)
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=frame.json or not sys.stderr.isatty(),
    )
    with bars:
        task = bars.add_task(what, total=None, told="")

        def tell(done: int, of: int | None = None, what: str = what) -> None:
            told = f"{done:,}" if of is None else f"{done:,} of {of:,}"
            bars.update(task, completed=done, total=of, description=clean(what), told=told)

        yield tell
