"""Options made from settings: one for each field, under its heading; examples that can be typed; `--config`."""

import dataclasses
import inspect
import json
import math
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from distilcse_cli.commands import app, options
from distilcse_cli.commands.presets import PAPER_DISTILL
from distilcse_cli.commands.settings_file import read_settings
from distilcse_cli.config import CorpusSettings, EncodeSettings, MachineSettings, TextSettings, TripletSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.evaluation.settings import CompareSettings, EvalSettings
from distilcse_cli.serving.settings import OutputSettings
from distilcse_cli.setting import PANELS, Setting, option_name, settings_of
from distilcse_cli.teacher.settings import EndpointSettings, ImportSettings
from distilcse_cli.training.settings import DistillSettings, FinetuneSettings
from tests.e2e.conftest import Typed
from tests.training.conftest import write_corpus

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SETTINGS = {
    "extract": (CorpusSettings, EncodeSettings, MachineSettings, EndpointSettings),
    "import": (ImportSettings,),
    "distill": (DistillSettings, CorpusSettings, MachineSettings),
    "finetune": (FinetuneSettings, TripletSettings, MachineSettings),
    "compare": (CompareSettings, CorpusSettings),
    "eval": (EvalSettings, MachineSettings),
    "encode": (TextSettings, EncodeSettings, OutputSettings, MachineSettings),
}


@pytest.mark.parametrize("command", SETTINGS)
def test_every_field_is_an_option_with_its_own_words_and_default_or_internal(command: str) -> None:
    parameters = {parameter.name: parameter for parameter in COMMANDS[command].params}
    for kind in SETTINGS[command]:
        fields = dataclasses.fields(kind)
        defaults = {field.name: None if field.default is dataclasses.MISSING else field.default for field in fields}
        for field, setting in settings_of(kind).items():
            if setting.internal:
                assert field not in parameters
                continue
            option = parameters[field]
            assert option.help.startswith(setting.help), field
            assert (option.rich_help_panel, option.default) == (setting.panel, defaults[field])
            assert option.opts == [option_name(field, setting)]


def test_commands_are_listed_in_the_order_of_the_path() -> None:
    path = ["download", "plan", "extract", "import", "distill", "finetune", "compare", "eval", "encode"]
    path += ["index", "search", "align", "export", "push", "convert", "demo", "env"]
    assert list(COMMANDS) == path


def test_the_names_of_arguments_leave_dots_and_brackets_to_the_usage_line(typed: Typed) -> None:
    for command in ("download", "import", "encode", "search"):
        usage = typed(command, "--help").out.splitlines()[0]
        assert re.search(r" (\[[A-Z]+\]|\{[A-Z]+\})\.\.\.$", usage), usage


def test_help_has_the_headings_in_their_order_and_no_endless_numbers(typed: Typed) -> None:
    lines = typed("distill", "--help").out.splitlines()
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*PANELS, "Options", "Examples"]
    assert "[default: 2.718]" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("download", "env")])
def test_the_examples_of_a_command_are_lines_that_it_takes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTILCSE_MODEL", raising=False)
    lines = inspect.cleandoc(COMMANDS[command].epilog).splitlines()
    assert any(f"distilcse {command} " in line for line in lines)
    for line in lines:
        words = shlex.split(line.rpartition("| ")[2])
        assert words[0] == "distilcse"
        context = COMMANDS[words[1]].make_context(words[1], words[2:], resilient_parsing=True)
        # an unknown option of a line is left over
        assert [word for word in context.args if word.startswith("-")] == []


def test_two_settings_with_the_same_field_cannot_share_a_command() -> None:
    def both(*, one: TripletSettings, other: CorpusSettings) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name"):
        options.with_settings(both)


def test_a_command_gets_settings_made_from_its_options(typed: Typed) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Shape:
        sides: Annotated[int, Setting("Number of sides.", at_least=3)] = 3
        names: Annotated[tuple[str, ...] | None, Setting("Names.")] = None
        hidden: Annotated[int, Setting("Not for users.", internal=True)] = 7

    got = []

    @options.with_settings
    def draw(*, shape: Shape, times: int = 1) -> None:
        got.append((shape, times))

    small = typer.Typer()
    small.command()(draw)
    small(["--sides", "5", "--names", "a, b", "--times", "2"], standalone_mode=False)
    assert got == [(Shape(sides=5, names=("a", "b")), 2)]
    del typed


# --config


def test_a_file_is_read_under_what_is_typed_and_over_a_preset(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distilcse_cli.training import distill

    runs = []

    def run(sources: Any, out: Path, settings: DistillSettings, **further: Any) -> Any:
        runs.append((sources, out, settings, further))
        raise UsageError("seen")

    monkeypatch.setattr(distill, "run", run)
    (tmp_path / "run.toml").write_text(
        'teacher = "t"\nstudent = "s"\nkeep_layers = [0, 2]\ncorpus = "c.txt"\nout = "o"\npreset = "paper"\n'
        f"lr = 1\nepochs = 7\nlogit_scale = {math.e!r}\ndropout = false\nmin_words = 4\nnum_held_out = 5\n"
        'teacher_pooler = "avg"\ndevice = "cpu"\n',
        encoding="utf-8",
    )
    said = typed("distill", "--config", "run.toml", "--epochs", "9", "--out", "other", code=2)
    ((sources, out, settings, further),) = runs
    assert (sources.teacher.ref, sources.teacher.pooler, sources.student.keep_layers) == ("t", "avg", (0, 2))
    assert (sources.student.pooler, sources.corpus, out) == ("cls", ("c.txt",), Path("other"))
    assert (settings.lr, settings.epochs, settings.dropout, settings.num_held_out) == (1.0, 9, False, 5)
    assert settings.batch_size == PAPER_DISTILL["batch_size"]
    assert settings.logit_scale == math.e
    assert (further["corpus_settings"].min_words, further["device"]) == (4, "cpu")
    table = {tuple(cell.strip() for cell in row.split("|")[1:4]) for row in said.err.splitlines() if row[:1] == "|"}
    assert {("epochs", "9", "as typed"), ("lr", "1.0", "--config"), ("batch-size", "512", "preset")} <= table


BAD_FILES = {
    "an unknown key": ("learning_rate = 1", "run.toml has the unknown key learning_rate"),
    "nearly a key": ("batch_sise = 1", "run.toml has the unknown key batch_sise (did you mean batch_size?)"),
    "an option of the tests only": ("shuffle = false", "run.toml has the unknown key shuffle"),
    "the file itself": ('config = "x"', "run.toml has the unknown key config"),
    "a text for a number": ('lr = "high"', "run.toml: lr is 'high', but must be a number"),
    "a fraction": ("epochs = 1.5", "run.toml: epochs is 1.5, but must be a whole number"),
    "a truth for a number": ("epochs = true", "run.toml: epochs is True, but must be a whole number"),
    "a number for a truth": ("dropout = 1", "run.toml: dropout is 1, but must be true or false"),
    "a list for a text": ('teacher = ["a"]', "run.toml: teacher is ['a'], but must be a text"),
    "a number for a path": ("corpus = [1]", "run.toml: corpus is [1], but must be a text or a list of texts"),
    "a table": ("[lr]\nhigh = 1", "run.toml: lr is {'high': 1}, but must be a number"),
    "no TOML": ("lr: 1", "cannot read --config run.toml: "),
    "no text": (b"\xff", "cannot read --config run.toml: "),
    "a value out of range": ("lr = -1", "--lr is -1.0, but must be a positive number"),
    "an unknown preset": ('preset = "mine"', "--preset is 'mine', but must be paper or best"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line_that_names_file_and_key(typed: Typed, tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    (tmp_path / "run.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = ["--teacher", "t", "--student", "s", "--corpus", "c", "--out", "o"]
    said = typed("distill", "--config", "run.toml", *line, code=2)
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_missing_file_is_named(typed: Typed) -> None:
    said = typed("eval", "--config", "nowhere.toml", code=3)
    assert said.err.startswith("error: nowhere.toml does not exist")


@pytest.mark.parametrize("command", SETTINGS)
def test_each_command_takes_a_file_of_all_its_settings(command: str, tmp_path: Path) -> None:
    shown = {"tuple": '["a", "b"]', "str": '"x"', "int": "1", "float": "0.5", "bool": "true"}
    lines, parameters = [], {parameter.name for parameter in COMMANDS[command].params}
    for kind in SETTINGS[command]:
        for field in dataclasses.fields(kind):
            if field.name in parameters:
                text = str(field.type)
                value = next(shown[name] for name in shown if name in text.partition("Setting")[0])
                lines.append(f"{field.name} = {value}")
    (tmp_path / "all.toml").write_text("\n".join(lines), encoding="utf-8")
    context = COMMANDS[command].make_context(command, [], resilient_parsing=True)
    from distilcse_cli.commands.settings_file import _keys

    assert len(read_settings(tmp_path / "all.toml", _keys(context))) == len(lines) > 3


@pytest.mark.e2e
def test_a_settings_file_repeats_a_run_to_the_byte(
    distilcse: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    home: Path,
    tiny: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DISTILCSE_DATA", raising=False)
    assert not home.exists()
    write_corpus(tmp_path / "corpus.txt", 88)
    given = {
        "teacher": str(tiny(width=24, seed=1)),
        "student": str(tiny()),
        "keep_layers": [0, 2],
        "corpus": ["corpus.txt"],
        "pooler": "avg",
        "batch_size": 16,
        "bank_size": 40,
        "dropout": True,
        "lr": 0.003,
        "seed": 7,
        "device": "cpu",
        "compute_dtype": "float32",
    }
    options = {name.replace("_", "-"): value for name, value in given.items()}
    del options["dropout"]
    options |= {"keep-layers": "0,2", "corpus": "corpus.txt"}
    typed = [word for name, value in options.items() for word in (f"--{name}", value)]
    distilcse("distill", *typed, "--dropout", "--out", "first")
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    (tmp_path / "run.toml").write_text("\n".join(lines), encoding="utf-8")
    distilcse("distill", "--config", "run.toml", "--out", "second")
    # the file that the run wrote beside its student
    distilcse("distill", "--config", "first/distilcse.toml", "--out", "third")
    weights = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second", "third")}
    assert len(weights) == 1
