"""Hooks of mkdocs: README and its neighbours become pages of the site, and so does the Python API.

On GitHub and on a disk, docs/ links to `../README.md`, and README to `docs/PAGE.md`; both hold in the site.
"""

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""File beside docs/ -> its page."""
LINK = re.compile(r"\]\(((?:\.\./|docs\b/?)?)([\w.-]*)")


def api() -> str:
    """The page of the Python API: every public name of both packages."""
    lines = ["# Python API"]
    for package in ("distilcse_cli", "senteval"):
        module = importlib.import_module(package)
        lines += [f"## {package}", module.__doc__ or ""]
        for name in getattr(module, "__all__", ()):
            if callable(getattr(module, name)):
                lines.append(f"::: {package}.{name}")
    return "\n\n".join(lines)


def linked(markdown: str, *, beside: bool) -> str:
    """Links of a page as they are in the site; `beside` docs/ instead of in it."""

    def there(link: re.Match[str]) -> str:
        folder, name = link.groups()
        if folder == ("" if beside else "../") and name in PAGES:
            return f"]({PAGES[name]}"
        return f"]({name or 'index.md'}" if beside and folder else link[0]

    return LINK.sub(there, markdown)


def on_files(files: "Files", config: Any) -> "Files":
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        text = linked((ROOT / name).read_text(encoding="utf-8"), beside=True)
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "api.md", content=api()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links from docs/ to what is beside it."""
    return linked(markdown, beside=False)
