"""README's tree names every file of the rooms, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTED = ("distilcse_cli", "senteval", "benchmarks", "tools")


def _tree() -> Iterator[tuple[str, str]]:
    """Path and description of each line of the tree; a folder's path ends with a slash."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("## The tree")[2].partition("```")[2].partition("```")[0]
    folders: list[str] = []
    for line in block.strip("\n").splitlines():
        indent, name, words = re.fullmatch(r"( *)(\S+) +(.+)", line).groups()  # type: ignore[union-attr]
        del folders[len(indent) // 2 :]
        yield "".join(folders) + name, words
        if name.endswith("/"):
            folders.append(name)


def test_the_tree_names_every_file() -> None:
    named = {path for path, _ in _tree() if path.endswith(".py")}
    files = {path.relative_to(ROOT).as_posix() for room in LISTED for path in (ROOT / room).rglob("*.py")}
    without_init = {path for path in files if not path.endswith("__init__.py")} | {
        path for path in named if path.endswith("__init__.py")
    }
    assert named - files == set()
    assert without_init - named - {f"{room}/__main__.py" for room in LISTED} == set()


def test_every_line_of_the_tree_says_what_it_is_in_a_few_words() -> None:
    for path, words in _tree():
        assert 2 <= len(words.split()) <= 12, path
