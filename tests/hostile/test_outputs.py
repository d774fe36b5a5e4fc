"""Outputs that cannot be written: no permission, no room, something in the way."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.case import Case, folder, ids, read_only_folder
from tests.hostile.conftest import TALLY, TEXT, Command, Ended, check_home, snapshot

FEW = "--compute-dtype float32"
LINES = {
    "encode": f"encode {{text}} --model {{model}} --out OUT.npy {FEW}",
    "encode npz": f"encode {{text}} --model {{model}} --out OUT.npz {FEW}",
    "encode jsonl": f"encode {{text}} --model {{model}} --out OUT.jsonl {FEW}",
    "encode parquet": f"encode {{text}} --model {{model}} --out OUT.parquet {FEW}",
    "extract": f"extract --teacher {{model}} --corpus {{text}} --out OUT {FEW}",
    "distill": f"distill --teacher {{model}} --student {{other}} --corpus {{text}} --out OUT --max-steps 2 {FEW}",
    "finetune": f"finetune --student {{other}} --triplets {{triples}} --out OUT --max-steps 2 {FEW}",
    "eval": f"eval --model {{model}} --tasks STS16 --data {{data}} --out OUT.json {FEW}",
    "eval mteb": f"eval --model {{model}} --tasks STS16 --data {{data}} --out OUT --format mteb {FEW}",
    "convert": "convert {weights} --base {model} --out OUT",
}
GIVEN = {name: f"{{{name}}}" for name in ("model", "other", "text", "triples")}
ORDINARY = {"ordinary": True}


def at(place: str, name: str) -> str:
    return LINES[name].replace("OUT", place)


def everywhere(what: str, place: str, files: Mapping[str, object], says: str, code: int = 3) -> list[Case]:
    return [
        Case(f"{name}: {what}", at(place, name), code, says, files, ORDINARY)  # type: ignore[arg-type]
        for name in LINES
        if not name.startswith("eval")
    ]


def own_model(path: Path, materials: Mapping[str, Path]) -> None:
    shutil.copytree(materials["model"], path)


def own_student(path: Path, materials: Mapping[str, Path]) -> None:
    shutil.copytree(materials["model"], path)
    (path / "distilcse.json").write_text("{}", encoding="utf-8")


def loop(path: Path, _materials: Mapping[str, Path]) -> None:
    path.symlink_to(path.name)


def gone(path: Path, _materials: Mapping[str, Path]) -> None:
    path.symlink_to("nowhere/folder")


def own_data(path: Path, materials: Mapping[str, Path]) -> None:
    shutil.copytree(materials["data"], path)


PERMISSIONS = [
    *everywhere("a read-only folder", "locked/out", {"locked": read_only_folder}, "Permission denied"),
    *everywhere("a place in the kernel", "/proc/nowhere/out", {}, "/proc/nowhere"),
    *everywhere("below a file", "file/out", {"file": "text"}, "file"),
    *everywhere("a name too long", "x" * 300, {}, "xxx"),
]

IN_THE_WAY = [
    Case(
        "encode: over its input", "encode rows.npy --model {model} --out rows.npy", 2, "overwrite", {"rows.npy": TEXT}
    ),
    Case(
        "encode: a taken name that nobody typed",
        "encode a.txt --model {model}",
        3,
        "a.npy exists already",
        {"a.txt": TEXT, "a.npy": "text"},
    ),
    Case("encode: its input has the name", "encode a.npy --model {model}", 2, "overwrite the input", {"a.npy": TEXT}),
    Case("encode: inside its input", "encode a.txt --model {model} --out a.txt/r.npy", 3, "a.txt", {"a.txt": TEXT}),
    Case("encode: a folder", "encode {text} --model {model} --out r.npy", 3, "r.npy", {"r.npy": folder}),
    Case(
        "extract: inside its input",
        "extract --teacher {model} --corpus a.txt --out a.txt/x",
        3,
        "a.txt",
        {"a.txt": TEXT},
    ),
    Case("extract: a file", at("taken", "extract"), 3, "cannot write taken", {"taken": "text"}),
    Case("distill: a file", at("taken", "distill"), 3, "taken", {"taken": "text"}),
    Case("finetune: a file", at("taken", "finetune"), 3, "taken", {"taken": "text"}),
    Case("convert: a file", at("taken", "convert"), 3, "taken is a file", {"taken": "text"}),
    Case("distill: a full folder", at("taken", "distill"), 3, "not an empty folder", {"taken/file": "text"}),
    Case("finetune: a full folder", at("taken", "finetune"), 3, "not an empty folder", {"taken/file": "text"}),
    Case("convert: a full folder", at("taken", "convert"), 3, "taken is not empty", {"taken/file": "text"}),
    Case(
        "distill: overwriting what is not ours", at("taken --overwrite", "distill"), 3, "taken", {"taken/file": "text"}
    ),
    Case(
        "finetune: overwriting what is not ours", at("t --overwrite", "finetune"), 3, "t is no student", {"t/file": "x"}
    ),
    Case("distill: resuming what is not ours", at("taken --resume", "distill"), 3, "taken", {"taken/file": "text"}),
    Case("eval: a folder for a file", at("r", "eval"), 2, "r.json is a folder", {"r.json": folder}),
    Case("eval: a file for a folder", at("taken", "eval mteb"), 2, "taken is a file", {"taken": "text"}),
    Case("eval: a read-only folder", at("locked/out", "eval"), 3, "Permission", {"locked": read_only_folder}, ORDINARY),
    Case("eval: below a file", at("file/out", "eval"), 3, "file/out", {"file": "text"}),
]
INSIDE = [
    Case(f"{name}: inside its {what}", line, 2, "lies inside of ", {"m": own_model, "d": own_data, "s": folder})
    for name, what, line in (
        ("encode", "model", "encode {text} --model ./m --out m/rows.npy"),
        ("encode", "model by another way", "encode {text} --model ./m --out s/../m/rows.npy"),
        ("encode", "base", "encode {text} --model {weights} --base ./m --out m/rows.npy"),
        ("extract", "teacher", "extract --teacher ./m --corpus {text} --out m/rows"),
        ("extract", "teacher itself", "extract --teacher ./m --corpus {text} --out m"),
        ("distill", "teacher", "distill --teacher ./m --student {other} --corpus {text} --out m/student"),
        ("distill", "student", "distill --teacher {model} --student ./m --corpus {text} --out m/a/b/student"),
        (
            "distill",
            "store",
            "distill --teacher {model} --student {other} --corpus {text} --embeddings s --out s/student",
        ),
        ("finetune", "student", "finetune --student ./m --triplets {triples} --out m/student"),
        ("convert", "base", "convert {weights} --base ./m --out m/student"),
        ("convert", "tokenizer", "convert {weights} --base {model} --tokenizer ./m --out m/student"),
        ("eval", "data", "eval --model {model} --tasks STS16 --data ./d --out d/r.json"),
    )
]
NOBODY = [
    Case(f"{where}: no such user", line, 2, "~nosuchuser", {}, job)
    for where, line, job in (
        ("encode", "encode {text} --model ~nosuchuser/m --out r.npy", {}),
        ("distill", "distill --teacher ~nosuchuser/m --student {other} --corpus {text} --out o", {}),
        ("convert, base", "convert {weights} --base ~nosuchuser/m --out o", {}),
        ("convert, tokenizer", "convert {weights} --tokenizer ~nosuchuser/m --out o", {}),
        ("eval, data", "eval --model {model} --tasks STS16 --data ~nosuchuser/d", {}),
        ("extract, home", LINES["extract"], {"environment": {"DISTILCSE_HOME": "~nosuchuser/h"}}),
        ("eval, home", LINES["eval"], {"environment": {"DISTILCSE_HOME": "~nosuchuser/h"}}),
    )
]
NO_FOLDERS = [
    Case(f"{name}: the name {out}", line.replace("OUT", out), 2, "has no name of its own")
    for name, line in LINES.items()
    if name in ("distill", "finetune", "convert")
    for out in (".", "/", "..")
]
DEAD_ENDS = [
    Case(f"{name}: {what}", line, 3, "OUT", {f"OUT{suffix}": made})
    for name, line in LINES.items()
    for suffix in [".npy" if name == "encode" else line.partition("OUT")[2].partition(" ")[0]]
    for what, made in (("a loop of links", loop), ("a link to a folder that is gone", gone))
]
BESIDE = [
    Case(f"{name}: {what}", at("OUT --overwrite", name).format_map(GIVEN | inputs), 3, says, {f"{folder}/mine": "text"})
    for name in ("distill", "finetune")
    for what, folder, says, inputs in (
        ("a folder of somebody else", "OUT.run", "OUT.run holds files that are not of a run", {}),
        ("the same, and no data", "OUT.run", "OUT.run holds", {"text": "nowhere.txt", "triples": "nowhere.csv"}),
        ("a good student of somebody else", "OUT.last-good", "OUT.last-good is no student of ours", {}),
    )
]
REPLACED = [
    Case(f"{name}: over its {what}", line, 2, "m", {"m": own_student, "m.last": own_student, "m/a.txt": TEXT})
    for name, what, line in (
        ("distill", "teacher", "distill --teacher ./m --student {other} --corpus {text} --out m --overwrite"),
        ("distill", "student", "distill --teacher {model} --student ./m --corpus {text} --out ./m --overwrite"),
        ("distill", "last student", "distill --teacher {model} --student m.last --corpus {text} --out m --overwrite"),
        ("distill", "corpus", "distill --teacher {model} --student {other} --corpus m/a.txt --out m --overwrite"),
        ("finetune", "student", "finetune --student ./m --triplets {triples} --out m --overwrite"),
        ("finetune", "weights", "finetune --student ./m/model.safetensors --triplets {triples} --out m --overwrite"),
        ("eval", "model's config", "eval --model ./m --tasks STS16 --data {data} --out m/config.json"),
        ("eval", "model's weights", "eval --model {weights} --base m --tasks STS16 --data {data} --out m/a.txt"),
        ("eval", "file of weights", "eval --model m/model.safetensors --data {data} --out m/model.safetensors"),
    )
]
CASES = [*PERMISSIONS, *IN_THE_WAY, *INSIDE, *NOBODY, *NO_FOLDERS, *DEAD_ENDS, *BESIDE, *REPLACED]


@pytest.mark.parametrize("hostile", CASES, ids=ids(CASES))
def test_an_output_that_cannot_be_written_is_one_line_and_harms_nothing(
    refuse: Callable[[Case], Ended], hostile: Case
) -> None:
    refuse(hostile)


OVER_THE_MODEL = [
    Case(
        f"{name}: its own model",
        at("m", name).replace("{model}", "./m").replace("{other}", "./m"),
        code,
        says,
        {"m": own_model},
    )
    for name, code, says in (
        ("distill", 2, "m is replaced by this run, which reads ./m"),
        ("finetune", 2, "m is replaced by this run, which reads ./m"),
        ("convert", 3, "m is not empty"),
    )
]


@pytest.mark.parametrize("hostile", OVER_THE_MODEL, ids=ids(OVER_THE_MODEL))
def test_a_model_is_not_written_over(refuse: Callable[[Case], Ended], hostile: Case) -> None:
    refuse(hostile)


# the cache


def locked_home(path: Path, _materials: Mapping[str, Path]) -> None:
    path.mkdir()
    path.chmod(0o555)


HOMES = [
    Case(f"{name}: {what}", LINES[name], 3, says, {"home": made}, {**job, "environment": {"DISTILCSE_HOME": "home"}})  # type: ignore[dict-item]
    for name in ("extract", "distill", "finetune")
    for what, made, says, job in (
        ("no permission in the cache", locked_home, "home", ORDINARY),
        ("a file for the cache", "text", "home", {}),
    )
]


@pytest.mark.parametrize("hostile", HOMES, ids=ids(HOMES))
def test_a_cache_that_cannot_be_written_is_one_line(refuse: Callable[[Case], Ended], hostile: Case) -> None:
    ended = refuse(hostile)
    assert "DISTILCSE_HOME" in ended.error


@pytest.mark.parametrize("name", ["extract", "distill", "finetune"])
def test_a_read_only_cache_is_used_where_it_is_whole(command: Command, tmp_path: Path, name: str) -> None:
    assert command(at("first", name)).code == 0
    made = [path for path in (tmp_path / "home").rglob("*") if path.is_dir()]
    for path in [tmp_path / "home", *made]:
        path.chmod(0o555)
    try:
        ended = command(at("second", name), **ORDINARY)
    finally:
        for path in [tmp_path / "home", *made]:
            path.chmod(0o755)
    assert ended.code == 0, ended.err
    assert "prepared before" in ended.err


def test_results_that_cannot_be_kept_are_shown_all_the_same(survive: Callable[[Case], Ended]) -> None:
    job = ORDINARY | {"environment": {"DISTILCSE_HOME": "home"}}
    line = LINES["eval"].replace(" --out OUT.json", "")
    survive(Case("eval: no permission in the cache", line, 0, "is not kept for later", {"home": locked_home}, job))


# the disk is full: no file grows beyond so many bytes


LIMITS = (200, 1_000, 4_000, 12_000, 30_000)


@pytest.mark.parametrize("name", LINES)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_done(
    command: Command, tmp_path: Path, materials: dict[str, Path], name: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    many = tmp_path / "many.txt"
    many.write_text(TEXT * 30, encoding="utf-8")
    materials = materials | {"text": many}
    line = LINES[name].format(**materials)
    num_refused = 0
    for limit in LIMITS:
        for made in work.iterdir():
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        ended = command(line, file_limit=limit)
        TALLY.inputs += 1
        left = {path for path, kind in snapshot(work).items() if kind != "folder" and not is_kept_to_go_on(path)}
        if ended.code == 0:
            continue
        assert ended.code == 3, ended.err
        assert "cannot write" in ended.error, ended.error
        assert ended.error.endswith(")"), f"no remedy: {ended.error}"
        assert left == set()
        check_home(tmp_path / "home")
        num_refused += 1
        TALLY.refused += 1
    assert num_refused > 0
    # with room again the same command succeeds
    ended = command(line + (" --resume" if name in ("distill", "finetune") else ""))
    assert ended.code == 0, ended.err
    assert_whole(work, name)


def is_kept_to_go_on(path: str) -> bool:
    """What extract and training keep under names of their own, to go on from."""
    partial = ("OUT", "OUT/sentences.txt", "OUT/manifest.partial.json", "OUT/embeddings.partial.npy")
    return path in partial or path.partition("/")[0] == "OUT.run"


def assert_whole(work: Path, name: str) -> None:
    if name == "encode":
        assert np.load(work / "OUT.npy").shape == (360, 16)
    elif name == "eval":
        assert "STS16" in json.loads((work / "OUT.json").read_text(encoding="utf-8"))
    elif name == "extract":
        assert np.load(work / "OUT" / "embeddings.npy").shape == (12, 16)
    elif name in ("distill", "finetune", "convert"):
        assert (work / "OUT" / "modules.json").is_file()
        assert not (work / "OUT.run").exists()
