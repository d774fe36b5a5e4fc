"""What is promised to whoever runs models and data of others: docs/security.md, held to its word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.download.instant import CAUGHT
from tests.hostile.conftest import Command

SOURCES = sorted(path for room in ("distilcse_cli", "senteval", "benchmarks") for path in (ROOT / room).rglob("*.py"))
PICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas"}
RUNNING = {"eval", "exec", "compile", "__import__"}

COMMANDS = {
    "encode": "encode {text} --model {model} --out rows.npy",
    "extract": "extract --teacher {model} --corpus {text} --out rows",
    "distill": "distill --teacher {model} --student {other} --corpus {text} --out student --max-steps 2",
    "finetune": "finetune --student {other} --triplets {triples} --out student --max-steps 2",
    "eval": "eval --model {model} --teacher {other} --tasks STS16 --data {data} --out r.json",
    "compare": "compare --teacher {model} --student {other} --corpus {text} --no-memory --report r.html",
    "convert": "convert {weights} --base {model} --out student",
    "env": "env",
    "env --json": "env --json",
    "list": "download --list",
    "verify": "download --verify",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """All calls of a file with the dotted names of what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def constant(call: ast.Call, name: str) -> object:
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def test_no_source_can_unpickle_or_run_what_it_reads() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        check_trust(path)


def check_trust(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in imported:
            assert name.partition(".")[0] not in PICKLING, f"{path}:{node.lineno} imports {name}"
    for name, call in calls(path):
        place = f"{path}:{call.lineno} {name}"
        if name == "torch.load":
            assert constant(call, "weights_only") is True, place
        if name in ("np.load", "numpy.load"):
            assert constant(call, "allow_pickle") is False, place
        assert constant(call, "trust_remote_code") in (None, False), place
        assert constant(call, "shell") in (None, False), place
        assert constant(call, "verify") is not False, place
        assert name not in RUNNING, place
        assert name not in ("os.system", "os.popen", "torch.hub.load", "yaml.load"), place
        if name.endswith(".extractall"):
            assert constant(call, "filter") == "data", place


@pytest.mark.parametrize("name", ["AutoModel", "AutoConfig", "AutoTokenizer"])
def test_whatever_loads_a_model_says_that_its_code_is_not_wanted(name: str) -> None:
    found = [
        (path, call)
        for path in SOURCES
        for called, call in calls(path)
        if called in (f"{name}.from_pretrained", f"{name}.from_config") and path.parts[-2] != "benchmarks"
    ]
    assert found
    for path, call in found:
        assert constant(call, "trust_remote_code") is False, f"{path}:{call.lineno}"


@pytest.mark.parametrize("name", [name for name in COMMANDS if "env" not in name])  # which asks uname
def test_what_is_here_is_used_without_a_look_at_the_network_or_another_program(command: Command, name: str) -> None:
    ended = command(COMMANDS[name], isolated=True)
    assert ended.code == 0, ended.err


def test_the_trap_catches_a_hub_id(command: Command) -> None:
    ended = command("encode {text} --model owner/name --out rows.npy", isolated=True)
    assert ended.code == CAUGHT, ended.err
    assert "caught: " in ended.err


SECRETS = {
    "HF_TOKEN": "hf_s3cr3t-of-the-hub",
    "HTTPS_PROXY": "http://user:s3cr3t-of-the-proxy@127.0.0.1:9",
    "http_proxy": "http://user:s3cr3t-of-the-proxy@127.0.0.1:9",
    "HF_ENDPOINT": "http://user:s3cr3t-of-the-endpoint@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-cloud",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_secret_is_printed_or_written(command: Command, tmp_path: Path, name: str) -> None:
    ended = command(COMMANDS[name], environment=dict(SECRETS))
    assert ended.code == 0, ended.err
    assert "s3cr3t" not in ended.out + ended.err
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path


def test_no_secret_is_in_an_error(command: Command) -> None:
    for line in (
        "encode {text} --model owner/name --out rows.npy",
        "extract --teacher {model} --corpus owner/name --out rows",
        "download nli",
        "download owner/name --revision main",
    ):
        ended = command(line, environment=dict(SECRETS))
        assert ended.code == 6, ended.err
        assert "s3cr3t" not in ended.error


def test_every_promise_names_a_test_that_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) >= 12
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
