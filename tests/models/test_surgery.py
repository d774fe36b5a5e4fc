"""Students cut from deeper models: the kept layers, with their weights, in the configuration too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from distilcse_cli.errors import ModelError, UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.surgery import cut_layers
from tests.models.test_encoder import SENTENCES, embed, tokens
from tests.tiny import ARCHITECTURES

LAYERS = dict.fromkeys(ARCHITECTURES, "encoder.layer") | {"distilbert": "transformer.layer", "modernbert": "layers"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("keep", [[0, 2, 3], [0], [0, 1, 2, 3]])
def test_a_cut_model_is_a_shallow_one_with_the_kept_layers_weights(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str, keep: list[int]
) -> None:
    folder = tiny(architecture, num_layers=4)
    student = load_encoder(str(folder), pooler="avg_first_last", keep_layers=keep)
    assert student.num_layers == len(keep)

    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = len(keep)
    if architecture == "modernbert":  # every third layer is global, from layer 0 on
        pattern = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
        config.layer_types = [pattern[layer] for layer in keep]
    shallow = AutoModel.from_config(config).eval()
    where = LAYERS[architecture]
    for name, tensor in AutoModel.from_pretrained(folder).state_dict().items():
        number, _, rest = name.removeprefix(f"{where}.").partition(".")
        if not name.startswith(where):
            shallow.state_dict()[name].copy_(tensor)
        elif int(number) in keep:
            shallow.state_dict()[f"{where}.{keep.index(int(number))}.{rest}"].copy_(tensor)
    ids, mask = tokens(student, SENTENCES)
    with torch.no_grad():
        expected = shallow(input_ids=ids, attention_mask=mask).last_hidden_state
        actual = student.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)

    save_student(student, tmp_path / "student", card="", settings={})
    torch.testing.assert_close(
        embed(load_encoder(str(tmp_path / "student")), SENTENCES), embed(student, SENTENCES), atol=1e-6, rtol=0
    )


def test_modernberts_local_and_global_layers_stay_what_they_were(tiny: Callable[..., Path], tmp_path: Path) -> None:
    # a window of two tokens to either side, so that local and global attention differ on short sentences
    folder = tmp_path / "narrow"
    shutil.copytree(tiny("modernbert", num_layers=4), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"local_attention": 4}), encoding="utf-8")
    student = load_encoder(str(folder), pooler="avg", keep_layers=[0, 3])
    assert student.backbone.config.layer_types == ["full_attention", "full_attention"]
    before = embed(student, SENTENCES)
    save_student(student, tmp_path / "student", card="", settings={})
    torch.testing.assert_close(embed(load_encoder(str(tmp_path / "student")), SENTENCES), before, atol=1e-6, rtol=0)
    # a pattern laid anew over two layers would make the second one local
    saved = tmp_path / "student" / "config.json"
    wrong = json.loads(saved.read_text(encoding="utf-8"))
    wrong["layer_types"] = ["full_attention", "sliding_attention"]
    saved.write_text(json.dumps(wrong), encoding="utf-8")
    assert (embed(load_encoder(str(tmp_path / "student")), SENTENCES) - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([], "names no layer"),
        ([0, 3], "0,3: there is no layer 3"),
        ([-1], "-1: there is no layer -1"),
        ([1, 1], "1,1: the numbers do not increase"),
        ([2, 0], "2,0: the numbers do not increase"),
    ],
)
def test_impossible_layers_are_usage_errors_that_name_the_possible(
    tiny: Callable[..., Path], keep: list[int], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_encoder(str(tiny("bert")), keep_layers=keep)
    assert "layers 0 to 2" in str(caught.value.hint)


def test_a_modernbert_keeps_its_first_layer(tiny: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="has to keep its layer 0"):
        load_encoder(str(tiny("modernbert")), pooler="avg", keep_layers=[1, 2])


def test_an_architecture_with_its_layers_elsewhere_is_a_model_error() -> None:
    config = AutoConfig.for_model("gpt2", vocab_size=9, n_embd=4, n_layer=2, n_head=1, n_positions=8)
    with pytest.raises(ModelError, match="where a gpt2 has its layers"):
        cut_layers(AutoModel.from_config(config), [0])
