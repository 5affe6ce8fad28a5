"""A WSGI application whose every request is one call. With `ASK_FIRST` it has asked before the server forks."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from calling import ask

if "ASK_FIRST" in os.environ:
    ask("asked by the master")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/process":
        ask(environ["QUERY_STRING"])
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
