"""Imported by Python at the start of each process under `callspan run`: instruments, then makes way for the next."""

import sys
from importlib import import_module, util
from pathlib import Path

_HERE = str(Path(__file__).parent)


def _instrument() -> None:
    try:
        from callspan.cli.run_process import start
    except ImportError:
        # A process of another interpreter, which has no callspan.
        return
    start()


def _next() -> None:
    """Import the sitecustomize that this one hides."""
    mine = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in sys.path if path != _HERE]
    if util.find_spec("sitecustomize") is not None:
        import_module("sitecustomize")
    elif mine is not None:
        sys.modules["sitecustomize"] = mine


_instrument()
_next()
