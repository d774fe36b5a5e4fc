"""The student folder: everything sentence-transformers, plain transformers and we need to load it again.

model.safetensors config.json             the backbone; for `cls` also the pooler, under transformers' own names
                                          (static: the table of token vectors; no config.json or 1_Pooling)
tokenizer.json tokenizer_config.json special_tokens_map.json    the tokenizer, with the longest input
modules.json config_sentence_transformers.json sentence_bert_config.json
1_Pooling/                                the pooling (after 1_WeightedLayerPooling if two layers are averaged)
2_Dense/                                  the dense + tanh of `cls`, or a kept projection
3_Normalize/                              if embeddings are scaled to length 1
README.md distilcse.json                  the model card; the settings it was made with
"""

import copy
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from distilcse_cli import __version__
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import atomic_folder, read_json, write_json
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import FIRST_TOKEN, MEAN, POOLINGS, Dense, layer_weights
from distilcse_cli.models.readers import attention_period, warn_of_readers
from distilcse_cli.models.static import is_static

_MODULE_TYPES = "sentence_transformers.models."
"""Module names that every version of sentence-transformers from 2 on finds."""
_OF_CALLS = ("max_length", "truncation", "truncation_strategy", "stride", "padding", "pad_to_multiple_of")
"""Arguments of some earlier call that transformers leaves in tokenizer_config.json. fastembed cuts at `max_length`."""


def save_student(
    encoder: SentenceEncoder,
    folder: Path,
    *,
    card: str,
    settings: dict[str, Any],
    beside: Iterable[Path] = (),
    dtype: str = "float32",
) -> None:
    """Write a student's whole folder at once.

    `SentenceTransformer(folder).encode` then gives the encoder's own embeddings with every pooling,
    scaled to length 1 if `encoder.normalize`. Warns of programs that do otherwise (`models.readers`).

    Args:
        encoder: the student, on any device.
        folder: must not exist, or be empty.
        card: text of README.md, the model card.
        settings: content of distilcse.json.
        beside: more files and folders to copy into the folder, such as the metrics of the training.
        dtype: one of `config.SAVE_DTYPES`, the number format of the weights on disk. config.json says float32 in any
            case: transformers then computes in it, so that all programs give the same vectors.

    Raises:
        DataError: the folder has something in it, or cannot be written.
        UsageError: a weight is too large for `dtype`.
    """
    with atomic_folder(folder) as target:
        _save_backbone(encoder, target, dtype)
        _save_tokenizer(encoder, target)
        names = _save_modules(encoder, target, dtype)
        write_json(target / "config_sentence_transformers.json", _sentence_transformers_config(encoder))
        if not is_static(encoder.backbone):
            write_json(target / "sentence_bert_config.json", _transformer_config(encoder))
        write_json(target / "distilcse.json", settings)
        first = "StaticEmbedding" if is_static(encoder.backbone) else "Transformer"
        (target / "modules.json").write_text(_modules_json(first, names), encoding="utf-8")
        (target / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
        for path in beside:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target / path.name)
    warn_of_readers(encoder)


def versions() -> dict[str, str]:
    """Of what made a folder, for its `distilcse.json`."""
    import transformers

    return {"distilcse": __version__, "torch": torch.__version__, "transformers": transformers.__version__}


def versions_for_others() -> dict[str, str]:
    """The same in the words of sentence-transformers, for `config_sentence_transformers.json`."""
    made_by = versions()
    return {"transformers": made_by["transformers"], "pytorch": made_by["torch"]}


def _save_backbone(encoder: SentenceEncoder, target: Path, dtype: str) -> None:
    backbone = encoder.backbone
    tensors = dict(backbone.state_dict())
    if POOLINGS[encoder.pooling].dense and hasattr(backbone, "pooler"):
        # plain transformers looks for the dense layer here, not in 2_Dense
        pooler = encoder.dense[0].linear
        tensors |= {"pooler.dense.weight": pooler.weight.detach(), "pooler.dense.bias": pooler.bias.detach()}
    _save_tensors(_rounded(tensors, dtype), target)
    if is_static(backbone):
        return
    config = copy.deepcopy(backbone.config)
    config.architectures = [type(backbone).__name__]
    config.dtype = str(backbone.dtype).removeprefix("torch.")
    # sentence-transformers passes the layers to WeightedLayerPooling only if the config says so
    config.output_hidden_states = POOLINGS[encoder.pooling].mixes is not None
    config.save_pretrained(target)
    written = read_json(target / "config.json")
    written.pop("global_attn_every_n_layers", None)  # of the model that it was cut from
    write_json(target / "config.json", dict(sorted((written | _keys_of_others(config)).items())))


def _keys_of_others(config: Any) -> dict[str, Any]:
    """What config.json says once more under the names that other programs and transformers 4 read."""
    if config.model_type == "distilbert":
        return {"hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers}
    period = attention_period(config) if config.model_type == "modernbert" else None
    if period is None:
        return {}
    rope = config.rope_parameters
    return {
        "global_attn_every_n_layers": period,
        "global_rope_theta": rope["full_attention"]["rope_theta"],
        "local_rope_theta": rope["sliding_attention"]["rope_theta"],
    }


def _save_tokenizer(encoder: SentenceEncoder, target: Path) -> None:
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.model_max_length = encoder.max_length
    # truncation and padding of its last use are still on, and would be saved
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    if is_static(encoder.backbone):  # StaticEmbedding reads tokenizer.json alone, this limit included
        tokenizer.backend_tokenizer.enable_truncation(encoder.max_length, direction=tokenizer.truncation_side)
    try:
        tokenizer.save_pretrained(target)
    except Exception as error:  # the Rust side raises no better one when the disk is full
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot write the tokenizer: {reason}", hint="make room, or choose another folder") from error
    # transformers 4 knows neither the name of the class nor that of further special tokens, and feeds more inputs
    config = read_json(target / "tokenizer_config.json")
    config = {key: value for key, value in config.items() if key not in _OF_CALLS}
    extra = config.pop("extra_special_tokens", [])
    if extra:
        config["additional_special_tokens"] = extra
    if config.get("tokenizer_class") == "TokenizersBackend":
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
    write_json(target / "tokenizer_config.json", config)
    write_json(target / "special_tokens_map.json", tokenizer.special_tokens_map)


def _save_modules(encoder: SentenceEncoder, target: Path, dtype: str) -> list[str]:
    """Write the folders of all modules after the transformer; return the modules' names in order."""
    hidden, pooling = encoder.backbone.config.hidden_size, POOLINGS[encoder.pooling]
    names = []

    def new_folder(name: str) -> Path:
        names.append(name)
        folder = target / f"{len(names)}_{name}"
        folder.mkdir()
        return folder

    if pooling.mixes is not None:
        _save_layer_weights(encoder, pooling.mixes, new_folder("WeightedLayerPooling"))
    flags = (FIRST_TOKEN.flag, MEAN.flag, "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens")
    if not is_static(encoder.backbone):
        write_json(
            new_folder("Pooling") / "config.json",
            {"word_embedding_dimension": hidden} | dict.fromkeys(flags, False) | {pooling.reads.flag: True},
        )
    for dense in encoder.dense or ():
        _save_dense(dense, new_folder("Dense"), dtype)
    if encoder.normalize:
        write_json(new_folder("Normalize") / "config.json", {})
    return names


def _save_layer_weights(encoder: SentenceEncoder, mixes: int, target: Path) -> None:
    num_layers = encoder.num_layers
    weights = torch.tensor(layer_weights(mixes, num_layers))
    _save_tensors({"layer_weights": weights}, target)
    write_json(
        target / "config.json",
        {
            "word_embedding_dimension": encoder.backbone.config.hidden_size,
            "layer_start": 0,
            "num_hidden_layers": num_layers,
        },
    )


def _save_dense(dense: Dense, target: Path, dtype: str) -> None:
    linear, activation = dense.linear, dense.activation
    tensors = {f"linear.{name}": tensor for name, tensor in linear.state_dict().items()}
    _save_tensors(_rounded(tensors, dtype), target)
    write_json(
        target / "config.json",
        {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": f"{type(activation).__module__}.{type(activation).__name__}",
        },
    )


def _rounded(tensors: dict[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    """The tensors with their floating-point numbers in this format."""
    rounded = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    for name, tensor in rounded.items():
        if not tensor.isfinite().all() and tensors[name].isfinite().all():
            raise UsageError(f"{name} has numbers too large for {dtype}", hint="choose --save-dtype bfloat16")
    return rounded


def _save_tensors(tensors: dict[str, torch.Tensor], target: Path) -> None:
    from safetensors.torch import save

    # not written by safetensors itself, which makes files that only their owner may read
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    (target / "model.safetensors").write_bytes(content)


def _modules_json(first: str, names: list[str]) -> str:
    types = [first, *names]
    paths = ["", *(f"{index}_{name}" for index, name in enumerate(names, start=1))]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _MODULE_TYPES + kind}
        for index, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    return json.dumps(modules, indent=2) + "\n"


def _transformer_config(encoder: SentenceEncoder) -> dict[str, Any]:
    config: dict[str, Any] = {"max_seq_length": encoder.max_length, "do_lower_case": False}
    if encoder.lacks_pooler:
        # else transformers would add a pooler of random weights, with a warning
        config["model_args"] = {"add_pooling_layer": False}
    return config


def _sentence_transformers_config(encoder: SentenceEncoder) -> dict[str, Any]:
    return {
        "__version__": versions_for_others(),
        **encoder.prompts.as_dict(),
    }
