"""Every command of the README and of docs/ runs: the `$ ` lines of a page's console blocks, in their order."""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import DISTILCSE, ROOT
from tests.teacher.embedding_server import EmbeddingServer

pytestmark = [pytest.mark.e2e, pytest.mark.real_model, pytest.mark.slow]

BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands(page: Path) -> list[str]:
    """Shell commands of a page; a backslash at the end of a line joins it with the next."""
    commands: list[str] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        continues = False
        for line in block.splitlines():
            if continues:
                commands[-1] += "\n" + line
            elif line.startswith("$ "):
                commands.append(line[2:])
            continues = (continues or line.startswith("$ ")) and line.endswith("\\")
    return commands


RUN_PAGES = [page for page in PAGES if any("make " not in command for command in _commands(page))]


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, data_dir: Path, minilm: Path) -> None:
    lines = [
        f"Sentence number {number} says that the market {'rose' if number % 2 else 'fell'}." for number in range(120)
    ]
    (tmp_path / "sentences.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "more.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    if page.name == "encode.md":
        # the page is about a finished student, which the other pages make
        (tmp_path / "student").symlink_to(minilm)
    if page.name == "export.md":
        shutil.copytree(minilm, tmp_path / "student")
    # what installs or tests the project itself is what the test suite does anyway
    script = [command for command in _commands(page) if not re.match(r"(make|git|pip|cd) ", command)]
    environment = os.environ | {
        "PATH": f"{DISTILCSE.parent}{os.pathsep}{os.environ['PATH']}",
        "DISTILCSE_DATA": str(data_dir),
    }
    with EmbeddingServer() as server:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
            cwd=tmp_path, env=environment | {"ENDPOINT": server.url}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{page.name}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
