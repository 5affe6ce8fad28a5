"""Service: the service name of this process in records and spans, and the id of its instance."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from callspan.settings import absolute

SERVICE_FOR_RUN: Final = "CALLSPAN_RUN_SERVICE"
"""Set by `callspan run` for its processes; not a user setting."""
_INSTANCES: Final = uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320")
"""OpenTelemetry's namespace for instance ids."""
_PYTHON: Final = re.compile(r"(python|pypy)[\d.]*w?")
_OPTIONS_WITH_VALUE: Final = ("-c", "-W", "-X", "--check-hash-based-pycs")


def instance_id(process: str | None, host: str | None, pid: int) -> str:
    """Return the `service.instance.id` of a process, given its identity; if that is unknown, its host and id."""
    return str(uuid.uuid5(_INSTANCES, process or f"{host} {pid}"))


def service_name(setting: str | None, default: str | None = None) -> str | None:
    """Return the service name: the setting (OTEL_SERVICE_NAME), the resource's, `default`, or the program's name."""
    return setting or _resource_attribute("service.name") or default or main_name()


def main_name(arguments: Sequence[str] | None = None) -> str | None:
    """Return the application's name: as set by `callspan run`, else its script or module; None if unknown."""
    for_run = os.environ.get(SERVICE_FOR_RUN)
    if for_run:
        return for_run
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if arguments is None and spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return name_of_script((sys.argv if arguments is None else arguments)[:1])


def service_of_command(command_line: Sequence[str]) -> str | None:
    """Return the service name for a command line: its script without the suffix, its module, or the command.

    After `python` it is the program's name. None if the command line names no program.
    """
    name = name_of_script(command_line)
    if name is None or _PYTHON.fullmatch(name) is None:
        return name
    words = iter(command_line[1:])
    for word in words:
        if word == "-m":
            return next(words, None)
        if word in _OPTIONS_WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return name_of_script((word,))
    return None


def name_of_script(arguments: Sequence[str]) -> str | None:
    """Return the name of the script or command at the start of a command line, or None."""
    word = arguments[0] if arguments else ""
    if not word or word.startswith("-"):
        return None
    path = absolute(Path(word))
    if path.stem == "__main__":
        path = path.parent
    return (path.stem if path.suffix in (".py", ".pyw", ".pyz") else path.name) or None


def _resource_attribute(name: str) -> str | None:
    """Return the attribute as OpenTelemetry reads it: values are quoted as in URLs, and the last one counts."""
    pairs = (item.partition("=") for item in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}.get(name) or None
