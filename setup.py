"""Makes the project's page on PyPI from README.md; pyproject.toml holds all else.

PyPI shows README without the repository, so links into it become links to `Repository` of `[project.urls]`, or plain
words while that is not set.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://)([^)\s]+)\)")


def page(readme: str, repository: str | None) -> str:
    """README with links that hold on another site; a picture without an address is left out."""

    def absolute(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if not repository:
            return "" if picture else words
        target = f"README.md{target}" if target.startswith("#") else target
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return LINK.sub(absolute, readme)


if __name__ == "__main__":
    here = Path(__file__).parent
    urls = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    readme = (here / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=page(readme, urls.get("Repository")),
        long_description_content_type="text/markdown",
    )
