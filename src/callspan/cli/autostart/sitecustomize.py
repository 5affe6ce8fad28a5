"""Instrument each Python process under `callspan run`, then import the `sitecustomize` that this one shadows."""

import sys
from importlib import import_module, util
from pathlib import Path

_HERE = str(Path(__file__).parent)


def _instrument() -> None:
    try:
        from callspan.cli.run import start

        start()
    except ImportError:
        # Another interpreter, without callspan or its requirements.
        return


def _next() -> None:
    """Import the `sitecustomize` that this one shadows."""
    mine = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in sys.path if path != _HERE]
    if util.find_spec("sitecustomize") is not None:
        import_module("sitecustomize")
    elif mine is not None:
        sys.modules["sitecustomize"] = mine


_instrument()
_next()
