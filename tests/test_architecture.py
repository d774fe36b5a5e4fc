"""The rooms of the code: imports flow one way, files and functions stay short."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "distilcse_cli"

# a room may import from those before it, and within itself
ROOMS = (
    ("errors", "signals", "streams"),
    ("setting", "paths"),
    ("config", "files"),
    ("bf16", "outputs"),
    ("console", "runtime"),
    ("rendezvous",),
    ("ranks",),
    ("launcher",),
    ("catalogue",),
    ("data",),
    ("models",),
    ("teacher",),
    ("training",),
    ("evaluation", "serving"),
    ("jobs",),
    ("api", "commands"),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
SOURCES = sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "senteval").rglob("*.py")])


def _room(path: Path) -> str:
    return path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_flow_one_way() -> None:
    for path in (ROOT / PACKAGE).rglob("*.py"):
        room = _room(path)
        if room == "__init__":
            continue
        for name in _imports(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package == PACKAGE and other in LEVEL and other != room:
                assert LEVEL[other] < LEVEL[room], f"{path.relative_to(ROOT)} imports {name}"


def test_senteval_stands_alone() -> None:
    for path in (ROOT / "senteval").rglob("*.py"):
        tops = {name.split(".")[0] for name in _imports(path)}
        assert not tops & {PACKAGE, "transformers"}, path


def test_files_and_functions_stay_short() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1  # type: ignore[operator]
                assert lines <= 60, f"{path}:{node.lineno} {node.name}: {lines} lines"
