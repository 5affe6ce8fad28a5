"""Instrument each Python process under `callspan run`, then import the `sitecustomize` that this one shadows."""

import sys
from importlib import import_module, util
from pathlib import Path

_DIRECTORY = str(Path(__file__).parent)


def _instrument() -> None:
    try:
        from callspan.cli.run import start

        start()
    except ImportError:
        # The process runs another interpreter, without callspan or its requirements.
        return


def _import_shadowed() -> None:
    """Import the `sitecustomize` that this one shadows."""
    own_module = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in sys.path if path != _DIRECTORY]
    if util.find_spec("sitecustomize") is not None:
        import_module("sitecustomize")
    elif own_module is not None:
        sys.modules["sitecustomize"] = own_module


_instrument()
_import_shadowed()
