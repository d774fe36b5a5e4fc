"""The scripts of docs/scaling-out.md: shell and YAML parse, and so do the commands in them."""

import re
import shlex
import subprocess
from typing import Any

import pytest
import typer
import yaml

from distilcse_cli.commands import app
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "scaling-out.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(MANIFESTS,) = (list(yaml.safe_load_all(one)) for one in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S))
JOBS = [one["spec"]["template"]["spec"] | one["spec"] for one in MANIFESTS if one["kind"] == "Job"]
IN_PODS = [job["containers"][0]["args"][0] for job in JOBS]


def options_of(script: str) -> tuple[str, dict[str, Any]]:
    """The command that a script runs, and its options as typed."""
    (line,) = re.findall(r"^.*\bdistilcse ([a-z]+ .*?)'?$", script.replace("\\\n", " "), re.MULTILINE)
    name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    parsed, rest, _ = command.make_parser(typer.Context(command)).parse_args(words)
    assert not rest
    return name, parsed


@pytest.mark.parametrize("script", [*SCRIPTS, *IN_PODS])
def test_the_shell_parses(script: str) -> None:
    subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.parametrize("script", [*SCRIPTS, *IN_PODS])
def test_the_commands_have_the_options_that_they_use(script: str) -> None:
    name, parsed = options_of(script)
    assert parsed["resume"] is True
    assert parsed["out"].startswith("/shared/")
    if name == "encode":
        assert re.fullmatch(r"\$\w+/16", parsed["shard"])


def test_numbers_of_pods_and_of_shards_agree() -> None:
    distill, encode = JOBS
    environment = {one["name"]: one["value"] for one in distill["containers"][0]["env"]}
    assert int(environment["WORLD_SIZE"]) == distill["completions"] == distill["parallelism"]
    assert encode["completions"] == 16
    assert "#SBATCH --array=0-15\n" in SCRIPTS[1]
    service = MANIFESTS[0]["metadata"]["name"]
    assert environment["MASTER_ADDR"] == f"distill-0.{service}"
    assert distill["subdomain"] == service
