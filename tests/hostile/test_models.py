"""Hostile models and files of weights, through every command that loads one."""

import json
import os
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.case import Case, Content, copy_of, cut, folder, ids, read_only_folder
from tests.hostile.conftest import Ended
from tests.tiny import make_tiny

LINES = {
    "encode": "encode {{text}} --model {ref} --out rows.npy",
    "extract": "extract --teacher {ref} --corpus {{text}} --out rows",
    "distill": "distill --teacher {{model}} --student {ref} --corpus {{text}} --out student",
    "distill-teacher": "distill --teacher {ref} --student {{other}} --corpus {{text}} --out student",
    "finetune": "finetune --student {ref} --triplets {{triples}} --out student",
    "eval": "eval --model {ref} --tasks STS16 --data {{data}}",
    "eval-teacher": "eval --model {{model}} --teacher {ref} --tasks STS16 --data {{data}}",
    "convert": "convert {ref} --out student",
}
ALL = tuple(name for name in LINES if name != "convert")
Spoil = Callable[[Path], object]


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON object; None takes a field out."""
    fields = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")


def config(**changes: Any) -> Spoil:
    return lambda model: edit(model / "config.json", **changes)


def write(name: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda model: (model / name).write_bytes(data)


def remove(name: str) -> Spoil:
    return lambda model: (model / name).unlink()


def shorten(name: str, share: float = 0.5) -> Spoil:
    return lambda model: cut(model / name, share)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    """Change the weights."""

    def spoil(model: Path) -> None:
        file = model / "model.safetensors"
        found = load_file(file)
        change(found)
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, file, metadata={"format": "pt"})

    return spoil


def tokens(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change tokenizer.json."""

    def spoil(model: Path) -> None:
        fields = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
        change(fields)
        (model / "tokenizer.json").write_text(json.dumps(fields), encoding="utf-8")

    return spoil


class Touch:
    """Unpickled, it makes the file `ran` in the folder that the command runs in."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch ran",))


def evil(path: Path, _materials: Mapping[str, Path] | None = None) -> None:
    torch.save({"embeddings.word_embeddings.weight": torch.zeros(2, 2), "x": Touch()}, path)


def evil_tar(path: Path, materials: Mapping[str, Path]) -> None:
    evil(path.with_suffix(".inner"), materials)
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".inner"), "pickle")
    path.with_suffix(".inner").unlink()


def evil_npy(path: Path, _materials: Mapping[str, Path]) -> None:
    np.save(path, np.array([Touch()], dtype=object), allow_pickle=True)


def evil_bin(model: Path) -> None:
    (model / "model.safetensors").unlink()
    evil(model / "pytorch_model.bin")


def own_code(model: Path) -> None:
    (model / "evil.py").write_text("open('ran', 'w')\nclass C: pass\n", encoding="utf-8")
    edit(model / "config.json", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.C"}, model_type="evil")


def no_words(fields: dict[str, Any]) -> None:
    special = {token["content"] for token in fields["added_tokens"]}
    vocabulary = fields["model"]["vocab"]
    fields["model"]["vocab"] = {word: number for word, number in vocabulary.items() if word in special}


def other_words(fields: dict[str, Any]) -> None:
    special = {token["content"] for token in fields["added_tokens"]}
    vocabulary = fields["model"]["vocab"]
    fields["model"]["vocab"] = {
        word if word in special else f"ж{number}": number for word, number in vocabulary.items()
    }


def more_words(fields: dict[str, Any]) -> None:
    vocabulary = fields["model"]["vocab"]
    vocabulary.update({f"word{number}": len(vocabulary) + number for number in range(9)})


def broken_header(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 40) + file.read_bytes()[8:])


def lying_header(model: Path) -> None:
    """Every tensor is said to have twice the rows that are there."""
    content = (model / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for name, facts in header.items():
        if name != "__metadata__":
            facts["shape"][0] *= 2
    text = json.dumps(header).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def nan(found: dict[str, torch.Tensor]) -> None:
    for name, tensor in found.items():
        if name.endswith("LayerNorm.bias"):
            tensor[0] = float("nan")


MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]


def modules(*further: str, **files: object) -> Spoil:
    """A sentence-transformers folder with these modules and their configurations."""

    def spoil(model: Path) -> None:
        listed = [
            {"idx": number, "name": str(number), "path": name, "type": f"sentence_transformers.models.{name}"}
            for number, name in enumerate(further, 1)
        ]
        (model / "modules.json").write_text(json.dumps([*MODULES, *listed]), encoding="utf-8")
        for name, fields in files.items():
            (model / name).mkdir()
            (model / name / "config.json").write_text(json.dumps(fields), encoding="utf-8")

    return spoil


def of(names: tuple[str, ...], what: str, spoil: Spoil | Content, says: str, further: str = "") -> list[Case]:
    """The same model through several commands."""
    made = spoil if spoil is None or spoil is folder or spoil is read_only_folder else copy_of("model", spoil)  # type: ignore[arg-type]
    return [
        Case(f"{name}: {what}", f"{LINES[name].format(ref='./bad')} {further}".strip(), 4, says, {"bad": made})
        for name in names
    ]


def dense(content: object) -> Spoil:
    """A sentence-transformers folder whose dense layer has these pickled weights."""

    def spoil(model: Path) -> None:
        fields = {"in_features": 16, "out_features": 4, "activation_function": "torch.nn.Tanh"}
        modules("Pooling", "Dense", Pooling={"pooling_mode": "mean"}, Dense=fields)(model)
        torch.save(content, model / "Dense" / "pytorch_model.bin")

    return spoil


LAYER = {"linear.weight": torch.ones(4, 16), "linear.bias": torch.ones(4)}
# all commands load models with load_encoder: each fault comes once, and these of every command
ONE = ("encode",)
CASES = [
    *of(ALL, "no such folder", None, "no model ./bad"),
    *of(ONE, "an empty folder", folder, "./bad is no model folder"),
    *of(ALL, "weights cut short", shorten("model.safetensors"), "cannot load bad"),
    *of(ALL, "code of its own", own_code, "cannot load bad: it brings its own code, which is never run"),
    *of(ONE, "a pickle that runs code", evil_bin, "cannot load bad"),
    *of(ONE, "tokenizer cut short", shorten("tokenizer.json"), "cannot load the tokenizer of bad"),
    *of(ONE, "a tokenizer without words", tokens(no_words), "tokenizer"),
    *of(ALL, "a tokenizer with other words", tokens(other_words), "no vocabulary for this text"),
    *of(ONE, "a tokenizer larger than the embeddings", tokens(more_words), "but the model has embeddings for"),
    *of(ONE, "weights that are NaN", tensors(nan), "has NaN or infinity"),
    *of(ONE, "no weights", remove("model.safetensors"), "cannot load bad"),
    *of(ONE, "empty weights", write("model.safetensors", b""), "cannot load bad"),
    *of(ONE, "weights of noise", write("model.safetensors", bytes(range(256)) * 99), "cannot load bad"),
    *of(ONE, "a header of a terabyte", broken_header, "cannot load bad"),
    *of(ONE, "a header that lies", lying_header, "cannot load bad"),
    *of(ONE, "a weight missing", tensors(lambda t: t.pop("encoder.layer.1.output.dense.bias")), "lacks 1 weights"),
    *of(ONE, "no config", remove("config.json"), "./bad is no model folder"),
    *of(ONE, "empty config", write("config.json", ""), "cannot load bad"),
    *of(ONE, "config cut short", shorten("config.json"), "cannot load bad"),
    *of(ONE, "a list for config", write("config.json", "[1]"), "cannot load bad"),
    *of(ONE, "unknown architecture", config(model_type="nonsense"), "cannot load bad"),
    *of(ONE, "an encoder-decoder", config(model_type="t5", d_model=16, num_layers=1), "bad"),
    *of(ONE, "another width", config(hidden_size=32), "the shape of "),
    *of(ONE, "heads that do not divide", config(num_attention_heads=3), "cannot load bad"),
    *of(ONE, "more layers", config(num_hidden_layers=4), "lacks 16 weights"),
    *of(ONE, "negative width", config(hidden_size=-16), "cannot load bad"),
    *of(ONE, "text for a width", config(hidden_size="wide"), "cannot load bad"),
    *of(ONE, "no tokenizer", remove("tokenizer.json"), "bad has no tokenizer"),
    *of(ONE, "empty tokenizer", write("tokenizer.json", ""), "cannot load the tokenizer of bad"),
    *of(ONE, "a list for tokenizer", write("tokenizer.json", "[]"), "cannot load the tokenizer of bad"),
    *of(ONE, "a folder for tokenizer", lambda m: (remove("tokenizer.json")(m), (m / "tokenizer.json").mkdir()), "bad"),
    *of(ONE, "no padding", lambda m: edit(m / "tokenizer_config.json", pad_token=None), "has no padding token"),
    *of(ONE, "modules that are no list", write("modules.json", "{}"), "should hold a list of modules"),
    *of(ONE, "modules cut short", write("modules.json", '[{"idx": 0, '), "modules.json is not valid JSON"),
    *of(ONE, "deep modules", write("modules.json", "[" * 9**5), "modules.json is not valid JSON"),
    *of(ONE, "a module that is not there", modules("Pooling"), "Pooling/config.json"),
    *of(ONE, "max pooling", modules("Pooling", Pooling={"pooling_mode": "max"}), "uses max pooling"),
    *of(ONE, "a module nobody knows", modules("Oracle"), "uses a module Oracle"),
    *of(
        ONE,
        "a dense layer without weights",
        modules("Pooling", "Dense", Pooling={"pooling_mode": "mean"}, Dense={"in_features": 16, "out_features": 4}),
        "cannot read the weights in bad/Dense",
    ),
    *of(ALL, "a dense layer that runs code", dense(LAYER | {"x": Touch()}), "would run posix.system when it is loaded"),
    *of(ONE, "a dense layer of no names", dense([1, 2]), "holds no tensors with names"),
    *of(ONE, "a dense layer and more", dense(LAYER | {"more": torch.ones(1)}), "bad/Dense holds no plain dense layer"),
    *of(ONE, "a dense layer of two", dense(LAYER | {"linear.bias": torch.ones(5)}), "holds no plain dense layer"),
    *of(ONE, "a dense layer of nothing", dense({"linear.weight": torch.ones(0, 16)}), "has no linear.weight"),
    *of(ONE, "a dense layer of NaN", dense({**LAYER, "linear.bias": torch.full((4,), torch.nan)}), "has NaN or inf"),
    *of(ONE, "a dense layer of integers", dense({k: v.to(torch.int8) for k, v in LAYER.items()}), "is int8"),
]

WEIGHTS = [
    *[
        Case(f"{name}: {what}", LINES[name].format(ref="./bad.pth") + base, 4, says, {"bad.pth": made})
        for name in LINES
        for base in ([""] if "teacher" in name else [" --base {model}"])
        for what, made, says in (
            ("weights that run code", evil, "would run posix.system when it is loaded: refused"),
            ("weights cut short", copy_of("weights", cut), "is damaged, cut short, or no file of weights"),
            ("a text file for weights", "the cat\n", "is damaged, cut short, or no file of weights"),
        )
        if made is evil or name in ("encode", "convert")
    ],
    *[
        Case(f"{name}: {what} that runs code", LINES[name].format(ref=f"./{file}"), 4, file, {file: made})
        for name in ("encode", "convert")
        for what, file, made in (("a tar", "bad.tar", evil_tar), ("an array", "bad.npy", evil_npy))
    ],
    *[
        Case(f"{name}: {kind} that runs code as {what}", line.format(file=file), 3, file, {file: made})
        for name, what, line in (
            ("encode", "text", "encode {file} --model {{model}} --out rows.npy"),
            ("extract", "a corpus", "extract --teacher {{model}} --corpus {file} --out rows"),
            ("finetune", "a table", "finetune --student {{other}} --triplets {file} --out student"),
        )
        for kind, file, made in (
            ("a pickle", "bad.pth", evil),
            ("an array", "bad.npy", evil_npy),
            ("a tar", "bad.tar", evil_tar),
            ("a table", "bad.csv", evil),
            ("a parquet file", "bad.parquet", evil),
        )
        if (name, file) != ("encode", "bad.parquet")  # which is text to it, as any other name
    ],
    Case("convert: empty", "convert bad.pth --out student --base {model}", 4, "bad.pth is damaged", {"bad.pth": b""}),
    Case("convert: a folder", "convert {model} --out student", 2, "is no file of weights"),
    Case("convert: missing", "convert nowhere.pth --out student", 2, "nowhere.pth is no file of weights"),
    Case("convert: the null device", "convert /dev/null --out student", 4, "neither a model folder nor a file"),
    Case("convert: wrong depth", "convert {weights} --base {other} --out student", 4, "does not fit"),
    Case(
        "convert: no base to know the heads by", "convert {weights} --tokenizer {model} --out student", 4, "--base REF"
    ),
    Case("convert: no tokenizer of that size", "convert {weights} --out student", 4, "--tokenizer REF"),
    Case("convert: a base that is a file", "convert {weights} --base {text} --out student", 4, "is a file"),
    Case("convert: no such base", "convert {weights} --base ./nowhere --out student", 4, "no model ./nowhere"),
    Case("convert: a catalogue data set", "convert nli --out student", 2, "nli is no file of weights"),
    Case("encode: a base of a folder", "encode {text} --model {model} --base {model} --out rows.npy", 2, "--base does"),
    Case(
        "eval: a base of a folder", "eval --model {model} --base {model} --tasks STS16 --data {data}", 2, "--base does"
    ),
]

REFERENCES = [
    Case("encode: an empty reference", "encode {text} --out rows.npy --model=", 2, "no model is named"),
    Case("encode: a data set", "encode {text} --out rows.npy --model nli", 4, "nli is a data set, not a model"),
    Case("encode: offline", "encode {text} --out rows.npy --model some/one", 6, "some/one"),
    Case("encode: a misspelt name", "encode {text} --out rows.npy --model all-minilm", 4, "did you mean all-minilm-l6"),
    Case("encode: a name too long", "encode {text} --out rows.npy --model " + "x" * 300, 4, "xxx"),
    Case(
        "encode: a revision", "encode {text} --out rows.npy --model {model} --revision main", 2, "--revision main does"
    ),
    Case("encode: too many tokens", "encode {text} --out r.npy --model {model} --max-length 999", 2, "is more than"),
    Case(
        "encode: unknown pooling",
        "encode {text} --out rows.npy --model {model} --pooler nonesuch",
        2,
        "--pooler is 'nonesuch'",
    ),
    Case(
        "encode: the pooler it has not",
        "encode {text} --out rows.npy --model ./bad --pooler cls",
        4,
        "no weights for the dense layer",
        {"bad": lambda path, _: make_tiny("distilbert", path)},
    ),
    Case(
        "distill: no such layer",
        "distill --teacher {model} --student {model} --corpus {text} --out s --keep-layers 7",
        2,
        "there is no layer 7",
    ),
    Case(
        "distill: words for layers",
        "distill --teacher {model} --student {model} --corpus {text} --out s --keep-layers a,b",
        2,
        "--keep-layers is 'a,b'",
    ),
]
ALL_CASES = [*CASES, *WEIGHTS, *REFERENCES]


@pytest.mark.parametrize("hostile", ALL_CASES, ids=ids(ALL_CASES))
def test_a_hostile_model_is_refused_in_one_line_and_runs_no_code(
    refuse: Callable[[Case], Ended], tmp_path: Path, hostile: Case
) -> None:
    refuse(hostile)
    assert not list(tmp_path.rglob("ran"))


def test_the_pickles_of_this_suite_would_run_if_they_were_let(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    evil(tmp_path / "bad.pth")
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    evil_npy(tmp_path / "bad.npy", {})
    np.load(tmp_path / "bad.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()


def test_code_beside_a_known_architecture_is_neither_run_nor_passed_on(
    survive: Callable[[Case], Ended], tmp_path: Path
) -> None:
    def with_code(model: Path) -> None:
        own_code(model)
        edit(model / "config.json", model_type="bert")
        edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.C", "evil.C"]})

    files = {"bad": copy_of("model", with_code)}
    for line, out in (
        (LINES["distill"] + " --max-steps 1", "student"),
        ("convert {{weights}} --base {ref} --out converted", "converted"),
        ("convert {{weights}} --base {{model}} --tokenizer {ref} --out again", "again"),
    ):
        says = "" if "--tokenizer" in line else "brings its own code, which is not run: read as transformers' own bert"
        survive(Case(f"code beside a bert: {out}", line.format(ref="./bad"), 0, says, files))
        shutil.rmtree(tmp_path / "work" / "bad")
        assert (tmp_path / "work" / out / "modules.json").is_file()
        for file in (tmp_path / "work" / out).rglob("*.json"):
            assert "evil" not in file.read_text(encoding="utf-8"), file
    assert not list(tmp_path.rglob("ran"))


def test_a_model_is_only_read(refuse: Callable[[Case], Ended], survive: Callable[[Case], Ended]) -> None:
    """A folder without write permission is as good a model as any."""
    del refuse

    def read_only(path: Path, materials: Mapping[str, Path]) -> None:
        shutil.copytree(materials["model"], path)
        path.chmod(0o555)

    line = "encode {text} --model ./model --out rows.npy"
    survive(Case("read-only model", line, 0, "rows.npy: 12 rows", {"model": read_only}, {"ordinary": True}))
