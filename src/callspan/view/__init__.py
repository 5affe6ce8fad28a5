"""View: a page on loopback that shows a store: its sessions, their calls and conversations, as they are recorded."""

from __future__ import annotations

from callspan.view.server import ServerOptions, serve

__all__ = ["ServerOptions", "serve"]
