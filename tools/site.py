"""Site: what mkdocs needs besides `docs/`: the other pages of the project, with links as they are within the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "examples/auto_instrumentation/README.md": "without-code.md",
    "examples/collector/README.md": "collector-example.md",
    "examples/jaeger/README.md": "jaeger.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Where pages outside of `docs/` stand in the site."""
EXAMPLES = [path for path in sorted((ROOT / "examples").rglob("*")) if path.suffix in {".env", ".json", ".py", ".yaml"}]
"""Programs, rules and dashboards, which the site has as they are."""
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def in_site(page: str, target: str) -> str | None:
    """Return the address of a file that `page` links to, both from the project's root; None if the site lacks it."""
    whole = (ROOT / page).parent.joinpath(target).resolve()
    path = (whole / "README.md" if whole.is_dir() else whole).relative_to(ROOT)
    if path.as_posix() in PAGES:
        return PAGES[path.as_posix()]
    if whole in EXAMPLES:
        return path.as_posix()
    return path.relative_to("docs").as_posix() if path.parts[0] == "docs" else None


def with_links(page: str, text: str) -> str:
    """Return a page's Markdown with links as in the site. A link to a file that the site lacks is its name in code."""

    def replaced(match: re.Match[str]) -> str:
        target = in_site(page, match[2])
        return f"`{match[1]}`" if target is None else f"[{match[1]}]({target}{match[3] or ''})"

    return re.sub(r"\[([^\]]*)" + _LINK.pattern, replaced, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the files of the examples."""
    for path in EXAMPLES:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for page, name in PAGES.items():
        files.append(File.generated(config, name, content=with_links(page, (ROOT / page).read_text())))
    return files


def on_page_markdown(markdown: str, page: object, **_: object) -> str:
    """Return a page of `docs/` with its links to the project's other pages as in the site."""
    name = getattr(page, "file").src_uri  # noqa: B009
    return markdown if name in PAGES.values() else with_links(f"docs/{name}", markdown)
