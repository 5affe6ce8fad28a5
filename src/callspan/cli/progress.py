"""Progress: a bar on stderr for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from callspan.cli.safe_text import clean, is_unicode
from callspan.formatting import milliseconds

_MINUTE_S: Final = 60
UpdateProgress: TypeAlias = Callable[..., None]
"""`update(done, of, what="calls")` sets the progress; `of=None`: the total is unknown."""

_bars: Final[ContextVar[Progress | None]] = ContextVar("bars", default=None)
"""What is shown."""


class _Clock(ProgressColumn):
    """A progress column: the estimated time left or, if unknown, the time elapsed."""

    def render(self, task: Task) -> Text:
        """Return the column's current text."""
        left = task.time_remaining
        if left is not None and not task.finished:
            return Text(
                f"about {milliseconds(left * 1000) if left >= _MINUTE_S else f'{left:.0f} s'} left", style="dim"
            )
        return Text(milliseconds((task.elapsed or 0) * 1000), style="dim")


@contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[UpdateProgress]:
    """Show a progress bar while the block runs and yield its update function. Without a terminal on stderr: no bar.

    Within another one it is a line below that.
    """
    outer = _bars.get()
    with _new_bars(shown=shown) if outer is None else nullcontext(outer) as bars:
        inner = _bars.set(bars)
        task = bars.add_task(what, total=None, progress_text="")

        def update(done: int, of: int | None = None, what: str = what) -> None:
            progress_text = f"{done:,}" if of is None else f"{done:,} of {of:,}"
            bars.update(task, completed=done, total=of, description=clean(what), progress_text=progress_text)

        try:
            yield update
        finally:
            _bars.reset(inner)
            if outer is not None:
                outer.remove_task(task)


def _new_bars(*, shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn("dots" if is_unicode(console.encoding) else "line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[progress_text]}", markup=False),
        _Clock(),
        console=console,
        transient=True,
        disable=not shown or not sys.stderr.isatty(),
    )
