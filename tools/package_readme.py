"""Makes the README of the package: a package index shows no relative links, so they become absolute.

A metadata hook of hatchling. The address is `Source` of `[project.urls]` in pyproject.toml, and nowhere else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!https?:|mailto:|#)(?P<target>[^)]+)\)")


def absolute(readme: str, source: str, version: str) -> str:
    """Return the page with every relative link and picture as an address below `source`, at the tag of the version."""

    def replaced(found: re.Match[str]) -> str:
        kind = "raw" if found["image"] else "blob"
        return f"{found['image']}[{found['text']}]({source}/{kind}/v{version}/{found['target']})"

    return _LINK.sub(replaced, readme)


class CustomMetadataHook(MetadataHookInterface):
    """Sets the package's readme."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `readme`, which pyproject.toml names as dynamic."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = absolute(readme, metadata["urls"]["Source"].rstrip("/"), metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
