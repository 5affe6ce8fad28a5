"""An MCP server with one tool, over stdio or, given a port, over streamable HTTP."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

mcp: Any = import_module("mcp.server")
server = mcp.MCPServer("atlas")


@server.tool()  # type: ignore[untyped-decorator]
def weather(city: str) -> str:
    """Say the weather."""
    return f"Sunny in {city}"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[1]))
