"""Files of weights: the right encoder out of each, or one error that says what is wrong."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from distilcse_cli import catalogue
from distilcse_cli.errors import DistilCSEError, ModelError, UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.inferred import infer_config
from distilcse_cli.models.state_dict import read_state_dict
from tests.models.test_encoder import SENTENCES, embed
from tests.tiny import ARCHITECTURES, make_tiny, tiny_tokenizer

PREFIXES = (
    *("", "model.", "module.", "bert.", "roberta.", "student_model.", "encoder.", "module.student_model.bert."),
    *("_orig_mod.model.encoder.", "0.auto_model.", "anything.else."),
)
Tiny = Callable[..., Path]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save(path: Path, tensors: dict[str, torch.Tensor], prefix: str = "", **further: object) -> str:
    torch.save({**{prefix + name: tensor for name, tensor in tensors.items()}, **further}, path)
    return str(path)


def same(file: str, folder: Path, pooler: str = "avg", **settings: str) -> bool:
    loaded = embed(load_encoder(file, pooler=pooler, **settings), SENTENCES)
    return torch.equal(loaded, embed(load_encoder(str(folder), pooler=pooler), SENTENCES))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_architecture_under_each_prefix_is_the_same_encoder(
    tiny: Tiny, tmp_path: Path, architecture: str, prefix: str
) -> None:
    folder = tiny(architecture)
    file = save(tmp_path / "weights.pth", tensors_of(folder), prefix)
    assert same(file, folder, base=str(folder))


@pytest.mark.parametrize("prefix", ["", "model.", "encoder."])
def test_the_pooler_comes_out_of_the_file_and_not_out_of_the_base(tiny: Tiny, tmp_path: Path, prefix: str) -> None:
    base, other = tiny("bert"), tiny("bert", seed=1)
    file = save(tmp_path / "weights.pth", tensors_of(other), prefix)
    assert same(file, other, pooler="cls", base=str(base))
    assert not same(file, base, pooler="cls", base=str(base))


def test_safetensors_are_read_as_well_and_so_are_the_wrappers_of_training_programs(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny("bert")
    save_file(
        {f"model.{name}": tensor for name, tensor in tensors_of(folder).items()}, tmp_path / "weights.safetensors"
    )
    assert same(str(tmp_path / "weights.safetensors"), folder, base=str(folder))
    for key in ("state_dict", "model_state_dict", "model"):
        torch.save({key: tensors_of(folder), "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "checkpoint.pt")
        assert same(str(tmp_path / "checkpoint.pt"), folder, base=str(folder))


def test_half_precision_old_names_and_saved_positions_are_tolerated(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny("bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors_of(folder).items()
    }
    old["embeddings.position_ids"] = torch.arange(66).unsqueeze(0)
    assert same(save(tmp_path / "old.pth", old, "bert."), folder, base=str(folder))
    half = {name: tensor.half() for name, tensor in tensors_of(folder).items()}
    encoder = load_encoder(save(tmp_path / "half.pth", half), base=str(folder))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_a_language_models_head_is_left_out_aloud(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny("bert")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    file = save(tmp_path / "mlm.pth", dict(model.state_dict()))
    assert same(file, folder, base=str(folder))
    assert "tensors that are not the encoder's: cls.predictions.bias, " in capsys.readouterr().err


def test_what_simcse_calls_mlp_is_the_dense_layer_of_cls(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny("bert")
    renamed = {
        name.replace("pooler.dense.", "mlp.dense.") if name.startswith("pooler.") else f"bert.{name}": tensor
        for name, tensor in tensors_of(folder).items()
    }
    assert same(save(tmp_path / "simcse.pth", renamed), folder, pooler="cls", base=str(folder))


def test_of_two_encoders_the_student_is_taken_and_two_students_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    student, teacher = tensors_of(tiny("bert")), tensors_of(tiny("bert", seed=1))
    both = {f"student_model.{name}": tensor for name, tensor in student.items()}
    file = save(tmp_path / "both.pth", {**both, **{f"teacher_model.{name}": t for name, t in teacher.items()}})
    assert same(file, tiny("bert"), base=str(tiny("bert")))
    file = save(tmp_path / "two.pth", {**both, **{f"model.{name}": tensor for name, tensor in teacher.items()}})
    with pytest.raises(ModelError, match=r"holds 2 encoders: student_model\., model\."):
        load_encoder(file, base=str(tiny("bert")))


# without a base


@pytest.fixture
def wide(tmp_path: Path) -> Callable[[str], Path]:
    """Models whose heads are 64 wide, as real ones, with the norms of real ones."""

    def make(architecture: str) -> Path:
        folder = make_tiny(architecture, tmp_path / architecture, width=128, num_layers=2)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if architecture in ("roberta", "mpnet"):
            config["layer_norm_eps"] = 1e-5
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize(
    ("architecture", "prefix"),
    [("bert", ""), ("bert", "bert."), ("roberta", "roberta."), ("distilbert", "model."), ("mpnet", "module.")],
)
def test_without_a_base_the_architecture_is_read_from_the_tensors(
    wide: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], architecture: str, prefix: str
) -> None:
    folder = wide(architecture)
    file = save(tmp_path / "weights.pth", tensors_of(folder), prefix)
    assert same(file, folder, tokenizer=str(folder))
    said = capsys.readouterr().err
    reason = {"bert.": " (by its prefix)", "roberta.": " (by its prefix)"}.get(prefix, "")
    heads = "by its attention bias" if architecture == "mpnet" else "taken as 64 wide each"
    name = {"bert": "BERT", "roberta": "RoBERTa", "distilbert": "DistilBERT", "mpnet": "MPNet"}[architecture]
    assert f"{file}: read as a {name}{reason} of 2 layers, 128 wide, with 2 heads ({heads}), " in said


def test_the_inferred_model_reads_as_many_tokens_as_it_has_positions(
    wide: Callable[[str], Path], tmp_path: Path
) -> None:
    bert, roberta = wide("bert"), wide("roberta")
    # the tokenizer's own limit, 64, is another model's
    file = save(tmp_path / "bert.pth", tensors_of(bert))
    assert load_encoder(file, tokenizer=str(bert)).max_length == 66
    file = save(tmp_path / "roberta.pth", tensors_of(roberta), "roberta.")
    assert load_encoder(file, tokenizer=str(roberta)).max_length == 65  # one position is the padding's


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "bert"),
        ({"embeddings.token_type_embeddings.weight": torch.zeros(1, 128)}, "roberta"),
        ({"embeddings.position_embeddings.weight": torch.zeros(514, 128)}, "roberta"),
        ({"lm_head.bias": torch.zeros(3)}, "roberta"),
    ],
)
def test_a_roberta_is_told_from_a_bert(
    wide: Callable[[str], Path], tmp_path: Path, changes: dict[str, torch.Tensor], kind: str
) -> None:
    file = save(tmp_path / "weights.pth", {**tensors_of(wide("bert")), **changes})
    config, _ = infer_config(read_state_dict(Path(file)), pad_id=1)
    assert (config.model_type, config.pad_token_id) == (kind, 1)
    assert config.type_vocab_size == (1 if "embeddings.token_type_embeddings.weight" in changes else 2)


@pytest.mark.parametrize(("width", "heads"), [(312, 12), (384, 12), (768, 12), (1024, 16), (128, 2)])
def test_heads_are_64_wide_but_for_known_widths(tmp_path: Path, width: int, heads: int) -> None:
    config = AutoConfig.for_model(
        "bert", vocab_size=11, hidden_size=width, num_hidden_layers=1, intermediate_size=4, num_attention_heads=1
    )
    file = save(tmp_path / "weights.pth", AutoModel.from_config(config).state_dict())
    inferred, _ = infer_config(read_state_dict(Path(file)), pad_id=0)
    assert (inferred.num_attention_heads, inferred.intermediate_size, inferred.vocab_size) == (heads, 4, 11)


def test_what_tensors_do_not_tell_is_asked_for(tiny: Tiny, tmp_path: Path) -> None:
    file = save(tmp_path / "narrow.pth", tensors_of(tiny("bert")))
    with pytest.raises(ModelError, match="is 16 wide, a width without a known number of attention heads") as caught:
        load_encoder(file, tokenizer=str(tiny("bert")))
    assert "--base REF" in str(caught.value.hint)
    file = save(tmp_path / "modern.pth", tensors_of(tiny("modernbert")))
    with pytest.raises(ModelError, match="cannot tell the architecture"):
        load_encoder(file, tokenizer=str(tiny("bert")))


def test_the_tokenizer_is_that_of_a_downloaded_model_with_as_many_tokens(
    wide: Callable[[str], Path], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = wide("bert")
    file = save(tmp_path / "weights.pth", tensors_of(folder))
    with pytest.raises(ModelError, match=r"no downloaded model has a tokenizer of the \d+ tokens") as caught:
        load_encoder(file)
    assert "--tokenizer REF" in str(caught.value.hint)
    downloaded(home / "models" / "someone--model", folder)
    assert same(file, folder)
    assert "tokenizer of someone/model, which has as many tokens" in capsys.readouterr().err


@pytest.mark.real_model
def test_a_real_model_is_known_by_its_tensors_alone(
    minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "minilm.pth", tensors_of(minilm), "0.auto_model.")
    assert same(file, minilm)
    said = "read as a BERT of 6 layers, 384 wide, with 12 heads (known for this width), 30,522 tokens and 512 positions"
    assert said in capsys.readouterr().err


def downloaded(place: Path, folder: Path) -> None:
    """Put a model where `distilcse download` would have, with its record."""
    shutil.copytree(folder, place)
    files = [{"path": path.name, "bytes": path.stat().st_size, "sha256": ""} for path in sorted(place.iterdir())]
    entry = catalogue.hub_entry(place.name.replace("--", "/"))
    assert entry is not None
    record = {"format": 1, "name": place.name, "source": entry.source.label, "sha256": None, "files": files}
    (place / "source.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_folder_with_nothing_but_a_tokenizer_will_do(wide: Callable[[str], Path], tmp_path: Path) -> None:
    folder = wide("bert")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer" / "config.json").exists()
    file = save(tmp_path / "weights.pth", tensors_of(folder))
    assert same(file, folder, tokenizer=str(tmp_path / "tokenizer"))


# what is refused


def refused(file: str, base: Path, kind: type[DistilCSEError] = ModelError) -> str:
    with pytest.raises(kind) as caught:
        load_encoder(file, pooler="avg", base=str(base))
    assert "\n" not in f"{caught.value.message}{caught.value.hint}"
    assert caught.value.hint
    return caught.value.message


def test_a_file_of_another_depth_names_what_is_missing_and_what_is_too_much(tiny: Tiny, tmp_path: Path) -> None:
    three, two = tiny("bert"), tiny("bert", num_layers=2)
    # a layer of a BERT has 16 tensors; with the embeddings' 5 and the pooler's 2 that makes 55 for three layers
    message = refused(save(tmp_path / "two.pth", tensors_of(two)), three)
    assert f"does not fit {three}: 16 of 55 tensors are missing (encoder.layer.2.attention.self.query.weight" in message
    assert message.endswith(", …), and it has 2 layers")
    message = refused(save(tmp_path / "three.pth", tensors_of(three)), two)
    assert f"does not fit {two}: 16 are unexpected (encoder.layer.2.attention.output.LayerNorm.bias, " in message


def test_a_file_of_another_width_names_both_shapes(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("bert")
    file = save(tmp_path / "wide.pth", tensors_of(tiny("bert", width=24)))
    message = refused(file, base)
    assert "the shape of embeddings." in message
    assert f"24) in {file} and " in message or f"24,) in {file} and " in message


def test_a_file_of_another_architecture_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    message = refused(save(tmp_path / "mpnet.pth", tensors_of(tiny("mpnet"))), tiny("bert"))
    assert "tensors are missing (" in message
    assert "are unexpected (" in message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_one_error(tiny: Tiny, tmp_path: Path, share: float, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    tensors = tensors_of(tiny("bert"))
    torch.save(tensors, whole) if suffix == ".pth" else save_file(tensors, whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(content[: int(share * len(content))])
    assert refused(str(cut), tiny("bert")) == f"{cut} is damaged, cut short, or no file of weights"


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_file_that_would_run_code_is_refused_and_does_not(tiny: Tiny, tmp_path: Path, new: bool) -> None:
    file = tmp_path / "evil.pth"
    evil = {**tensors_of(tiny("bert")), "x": Touch(tmp_path / "ran")}
    torch.save(evil, file, _use_new_zipfile_serialization=new)
    assert refused(str(file), tiny("bert")) == f"{file} would run posix.system when it is loaded: refused"
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    torch.save(AutoModel.from_pretrained(tiny("bert")), tmp_path / "model.pth")
    assert refused(str(tmp_path / "model.pth"), tiny("bert")).endswith("when it is loaded: refused")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(2)], torch.zeros(2), {}, {"a": {"b": torch.zeros(1)}}])
def test_a_file_without_named_tensors_is_refused(tiny: Tiny, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert "holds no tensors with names" in refused(str(tmp_path / "other.pth"), tiny("bert"))


def test_a_file_without_an_encoder_says_what_it_has(tiny: Tiny, tmp_path: Path) -> None:
    file = save(tmp_path / "head.pth", {"classifier.weight": torch.zeros(2, 2)})
    assert "no token embeddings, so no encoder: it has classifier.weight" in refused(file, tiny("bert"))


def test_weights_that_are_no_numbers_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    tensors = tensors_of(tiny("bert"))
    name = "encoder.layer.1.output.dense.weight"
    broken = {**tensors, name: tensors[name].clone()}
    broken[name][0, 0] = float("nan")
    assert f"{name} in " in refused(save(tmp_path / "nan.pth", broken), tiny("bert"))
    quantized = {**tensors, name: tensors[name].to(torch.int8)}
    assert refused(save(tmp_path / "int8.pth", quantized), tiny("bert")).endswith("int8.pth is int8")


def test_base_and_tokenizer_go_with_files_only(tiny: Tiny, tmp_path: Path) -> None:
    folder = str(tiny("bert"))
    with pytest.raises(UsageError, match="--base does not go with"):
        load_encoder(folder, base=folder)
    with pytest.raises(UsageError, match="--tokenizer does not go with"):
        load_encoder(folder, tokenizer=folder)
    file = save(tmp_path / "weights.pth", tensors_of(tiny("bert")))
    with pytest.raises(UsageError, match="--revision main does not go with"):
        load_encoder(file, base=folder, revision="main")


def test_a_tokenizer_with_more_tokens_than_the_file_has_embeddings_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    tensors = tensors_of(tiny("bert"))
    tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"][:50].clone()
    file = save(tmp_path / "few.pth", tensors)
    with pytest.raises(ModelError, match="but the model has embeddings for 50"):
        load_encoder(file, tokenizer=str(tiny("bert")))


@pytest.mark.parametrize("pooling", ["cls", "avg_first_last"])
def test_the_pooling_is_the_bases_own(tiny: Tiny, tmp_path: Path, pooling: str) -> None:
    from distilcse_cli.models.folder import save_student

    original = load_encoder(str(tiny("bert")), pooler=pooling, max_length=30)
    original.normalize = True
    save_student(original, tmp_path / "base", card="", settings={})
    file = save(tmp_path / "weights.pth", tensors_of(tiny("bert")))
    encoder = load_encoder(file, base=str(tmp_path / "base"))
    assert (encoder.pooling, encoder.normalize, encoder.max_length) == (pooling, True, 30)
    assert torch.equal(embed(encoder, SENTENCES), embed(original, SENTENCES))
