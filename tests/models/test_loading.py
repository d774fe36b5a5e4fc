"""What a folder says of itself, and each way it can be wrong: one error that names the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging

from distilcse_cli.config import POOLINGS
from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from tests.models.test_encoder import SENTENCES, embed


def edit(file: Path, **changes: object) -> None:
    """Change fields of a JSON object; None takes a field out."""
    fields = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")


@pytest.fixture
def folder(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A plain transformers BERT to spoil."""
    return Path(shutil.copytree(tiny("bert"), tmp_path / "model"))


@pytest.fixture
def modules(tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """A sentence-transformers folder to spoil: `cls`, with its dense layer."""
    save_student(load_encoder(str(tiny("bert"))), tmp_path / "modules", card="", settings={})
    return tmp_path / "modules"


# pooling


def test_plain_transformers_is_pooled_by_its_pooler(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_encoder(str(folder), pooler="avg").pooling == "avg"
    assert capsys.readouterr().err == ""  # nothing of the folder's own was overridden
    assert load_encoder(str(folder)).pooling == "cls"
    assert capsys.readouterr().err == (
        f"{folder}: pooling cls, since its files name none; sentence-transformers takes the mean (--pooler avg)\n"
    )


def test_an_explicit_pooling_wins_and_says_so(modules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = load_encoder(str(modules), pooler="cls")
    assert capsys.readouterr().err == ""
    other = load_encoder(str(modules), pooler="avg")
    assert (own.dense is None, other.pooling, other.dense) == (False, "avg", None)
    assert capsys.readouterr().err == (
        f"{modules}: pooling avg as asked for without its dense layers, instead of the model's own, cls\n"
    )


def test_an_unknown_pooling_is_a_usage_error(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown pooling 'nonesuch'"):
        load_encoder(str(folder), pooler="nonesuch")


@pytest.mark.parametrize("architecture", ["distilbert", "modernbert"])
def test_cls_without_a_pooler_lists_the_poolings_that_work(tiny: Callable[..., Path], architecture: str) -> None:
    for pooler in (None, "cls"):
        with pytest.raises(ModelError, match="no weights for the dense layer that cls pooling needs") as caught:
            load_encoder(str(tiny(architecture)), pooler=pooler)
        assert caught.value.hint == ("choose --pooler " + " or ".join(name for name in POOLINGS if name != "cls"))


def test_a_masked_language_model_in_half_precision_is_its_encoder_in_fp32(folder: Path, tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "half")
    encoder = load_encoder(str(tmp_path / "half"), pooler="avg")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    expected = embed(load_encoder(str(folder), pooler="avg"), SENTENCES)
    torch.testing.assert_close(embed(encoder, SENTENCES), expected, atol=0.01, rtol=0)
    with pytest.raises(ModelError, match="no weights for the dense layer"):
        load_encoder(str(tmp_path / "half"))  # such a model has no pooler


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_a_pooler_that_is_not_in_the_checkpoint_is_not_made_up(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str
) -> None:
    folder = Path(shutil.copytree(tiny(architecture), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) == len(tensors) - 2
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no weights for the dense layer"):
        load_encoder(str(folder))
    assert load_encoder(str(folder), pooler="cls_before_pooler").pooling == "cls_before_pooler"


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "avg"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "mean", "embedding_dimension": 16}, "avg"),
        ({"pooling_mode": ["cls"], "embedding_dimension": 16}, "cls"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"pooling_mode": "weightedmean", "embedding_dimension": 16}, "weighted_mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}, "last_token"),
        ({"pooling_mode": ["lasttoken"], "embedding_dimension": 16}, "last_token"),
    ],
)
def test_the_pooling_is_read_in_the_old_form_and_the_new(modules: Path, config: dict, pooling: str) -> None:
    (modules / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    encoder = load_encoder(str(modules))
    assert encoder.pooling == pooling  # with the dense + tanh after it in all cases
    assert len(encoder.dense) == 1


def test_a_folder_that_sentence_transformers_saved_anew_is_the_same_model(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    for pooling in ("cls", "avg", "avg_first_last", "weighted_mean", "last_token"):
        encoder = load_encoder(str(tiny("bert")), pooler=pooling, max_length=30)
        encoder.normalize = True
        save_student(encoder, tmp_path / pooling, card="", settings={})
        SentenceTransformer(str(tmp_path / pooling), device="cpu").save(str(tmp_path / f"{pooling}-anew"))
        again = load_encoder(str(tmp_path / f"{pooling}-anew"))
        assert (again.pooling, again.normalize, again.max_length) == (pooling, True, 30)
        assert again.fingerprint == encoder.fingerprint


def test_a_backbone_in_a_folder_of_its_own_is_found(modules: Path) -> None:
    before = embed(load_encoder(str(modules)), SENTENCES)
    inner = modules / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json", "tokenizer.json"):
        (modules / name).rename(inner / name)
    (modules / "tokenizer_config.json").rename(inner / "tokenizer_config.json")
    listed = json.loads((modules / "modules.json").read_text(encoding="utf-8"))
    listed[0]["path"] = "0_Transformer"
    (modules / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    torch.testing.assert_close(embed(load_encoder(str(modules)), SENTENCES), before)


def test_dense_weights_may_be_pickled_tensors_but_nothing_else(modules: Path, tmp_path: Path) -> None:
    before = embed(load_encoder(str(modules)), SENTENCES)
    torch.save(load_file(modules / "2_Dense" / "model.safetensors"), modules / "2_Dense" / "pytorch_model.bin")
    (modules / "2_Dense" / "model.safetensors").unlink()
    torch.testing.assert_close(embed(load_encoder(str(modules)), SENTENCES), before)

    class Touch:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"linear.weight": Touch()}, modules / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot read the weights in"):
        load_encoder(str(modules))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("place", "changes", "problem"),
    [
        ("1_Pooling", {"pooling_mode_max_tokens": True}, r"cls \+ max pooling"),
        ("1_Pooling", {"pooling_mode_cls_token": False}, "no pooling"),
        ("1_Pooling", {"pooling_mode": "mean_sqrt_len_tokens"}, "mean_sqrt_len_tokens pooling"),
        ("2_Dense", {"activation_function": "os.system"}, "a dense layer with system"),
        ("2_Dense", {"use_residual": True}, "a dense layer with a residual"),
        ("2_Dense", {"module_input_name": "token_embeddings"}, "a dense layer on tokens"),
    ],
)
def test_what_we_cannot_do_is_said_unless_a_pooling_is_chosen(
    modules: Path, place: str, changes: dict, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(modules / place / "config.json", **changes)
    with pytest.raises(ModelError, match=f"uses {problem}, which is not supported") as caught:
        load_encoder(str(modules))
    assert "--pooler" in str(caught.value.hint)
    assert load_encoder(str(modules), pooler="avg").pooling == "avg"
    assert "instead of the model's own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("sentence_transformers.models.LSTM", "a module LSTM"),
        ("custom_code.Special", "custom_code.Special, which is the model's own code"),
    ],
)
def test_a_module_we_do_not_know_is_not_skipped(modules: Path, kind: str, problem: str) -> None:
    listed = json.loads((modules / "modules.json").read_text(encoding="utf-8"))
    listed.insert(1, {"idx": 9, "name": "9", "path": "9", "type": kind})
    (modules / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(ModelError, match=f"uses {problem}"):
        load_encoder(str(modules))


def test_layer_weights_of_their_own_are_no_pooling_of_ours(tiny: Callable[..., Path], tmp_path: Path) -> None:
    save_student(load_encoder(str(tiny("bert")), pooler="avg_top2"), tmp_path / "m", card="", settings={})
    weights = tmp_path / "m" / "1_WeightedLayerPooling" / "model.safetensors"
    save_file({"layer_weights": torch.tensor([0.0, 0.0, 1.0, 2.0])}, weights)
    with pytest.raises(ModelError, match="uses a mixture of layers with other weights"):
        load_encoder(str(tmp_path / "m"))


# length


@pytest.mark.parametrize(
    ("architecture", "positions"),
    # RoBERTa and MPNet count from behind the padding id, which is 0 in the one and always 1 in the other
    [("bert", 66), ("distilbert", 66), ("modernbert", 66), ("roberta", 65), ("mpnet", 64)],
)
def test_the_longest_input_is_what_the_positions_allow(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str, positions: int
) -> None:
    folder = Path(shutil.copytree(tiny(architecture), tmp_path / "model"))
    edit(folder / "tokenizer_config.json", model_max_length=512)
    assert load_encoder(str(folder), pooler="avg").max_length == positions
    encoder = load_encoder(str(folder), pooler="avg", max_length=positions)
    ids = torch.full((1, positions), 9)
    with torch.no_grad():
        assert encoder(ids, torch.ones_like(ids)).isfinite().all()
    with pytest.raises(UsageError, match=f"--max-length {positions + 1} is more than") as caught:
        load_encoder(str(folder), pooler="avg", max_length=positions + 1)
    assert caught.value.hint == f"at most {positions}"


def test_the_folders_own_length_holds_unless_another_is_asked_for(modules: Path) -> None:
    edit(modules / "sentence_bert_config.json", max_seq_length=20)
    assert load_encoder(str(modules)).max_length == 20
    assert load_encoder(str(modules), max_length=60).max_length == 60
    edit(modules / "sentence_bert_config.json", max_seq_length=None)
    assert load_encoder(str(modules)).max_length == 64  # the tokenizer's


# broken folders


def test_missing_weights_are_named_and_not_made_up(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of a bert: encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(str(folder))


def test_weights_of_a_shallower_model_are_not_filled_up(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=5)
    with pytest.raises(ModelError, match=r"lacks 32 weights of a bert: encoder\.layer\.3\.\S+, \S+, \S+, …"):
        load_encoder(str(folder))


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "cannot load"),
    "truncated weights": (lambda f: truncate(f / "model.safetensors"), "cannot load"),
    "other widths": (
        lambda f: edit(f / "config.json", vocab_size=170),
        r"\(164, 16\) in the file and \(170, 16\) by",
    ),
    "config is no JSON": (lambda f: truncate(f / "config.json"), "cannot load"),
    "unknown architecture": (lambda f: edit(f / "config.json", model_type="nonesuch"), "cannot load"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "truncated tokenizer": (lambda f: truncate(f / "tokenizer.json"), "cannot load the tokenizer"),
    "tokenizer of another model": (lambda f: add_words(f), "tokens, but the model has embeddings for 164"),
    "no padding token": (lambda f: no_padding(f), "no padding token"),
}


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def add_words(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["unheard", "of"])
    tokenizer.save_pretrained(folder)


def no_padding(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", pad_token=None)
    edit(folder / "config.json", pad_token_id=None)


@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_broken_folder_is_one_model_error(folder: Path, spoiler: str) -> None:
    spoil, message = SPOILERS[spoiler]
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(str(folder))
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("modules.json", "{", "not valid JSON"),
        ("modules.json", "{}", "should hold a list of modules"),
        ("modules.json", "[1]", "should hold a list of modules"),
        ("1_Pooling/config.json", "[]", "should hold a JSON object"),
        ("1_Pooling/config.json", None, "cannot read .*: No such file"),
        ("2_Dense/model.safetensors", "x", "cannot read the weights in"),
        ("2_Dense/model.safetensors", None, "cannot read the weights in"),
        ("sentence_bert_config.json", '{"max_seq_length": "long"}', "has a max_seq_length of 'long'"),
        ("config.json", None, "cannot load"),
    ],
)
def test_a_broken_module_is_one_model_error(modules: Path, file: str, text: str | None, message: str) -> None:
    if text is None:
        (modules / file).unlink()
    else:
        (modules / file).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message) as caught:
        load_encoder(str(modules))
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_dense_layer_of_another_width_is_a_model_error(modules: Path) -> None:
    other = nn.Linear(7, 7)
    tensors = {"linear.weight": other.weight.detach(), "linear.bias": other.bias.detach()}
    save_file(tensors, modules / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelError, match="has a dense layer for 7 numbers, but gets 16"):
        load_encoder(str(modules))


def test_a_vocabulary_of_special_tokens_only_is_refused(folder: Path) -> None:
    # transformers makes up five tokens where the vocabulary of a BERT is empty
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "vocab.txt").touch()
    with pytest.raises(ModelError, match="knows no words"):
        load_encoder(str(folder))


def test_a_vocabulary_as_plain_text_will_do(folder: Path) -> None:
    before = embed(load_encoder(str(folder)), SENTENCES)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")
    torch.testing.assert_close(embed(load_encoder(str(folder)), SENTENCES), before)


def test_an_encoder_decoder_is_no_sentence_encoder(folder: Path, tmp_path: Path) -> None:
    config = AutoConfig.for_model("t5", vocab_size=164, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    AutoModel.from_config(config).save_pretrained(tmp_path / "t5")
    for file in folder.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "t5")
    with pytest.raises(ModelError, match=r"is an encoder-decoder \(t5\)"):
        load_encoder(str(tmp_path / "t5"), pooler="avg")


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    edit(folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    with pytest.raises(ModelError, match="cannot load"):
        load_encoder(str(folder))
    assert not ran.exists()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_loading_and_saving_say_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    assert logging.is_progress_bar_enabled()
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "pooler" not in k}, folder / "model.safetensors", {"format": "pt"})
    save_student(load_encoder(str(folder), pooler="avg"), tmp_path / "student", card="", settings={})
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled(), "whoever else uses transformers in this process has its bars"
