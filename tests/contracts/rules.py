"""How other programs read a model folder, written down from their source (docs/serving.md names the versions).

Each rule takes a folder and returns what the program would compute, or None where it would not start. None of it
uses the code that writes the folder.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PREFIX = "sentence_transformers.models."
FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
BERT_KEYS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps"),
    "pad_token_id",
)
MODERNBERT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("hidden_activation", "max_position_embeddings", "initializer_range", "initializer_cutoff_factor", "norm_eps"),
    *("norm_bias", "pad_token_id", "eos_token_id", "bos_token_id", "cls_token_id", "sep_token_id"),
    *("global_rope_theta", "attention_bias", "attention_dropout", "global_attn_every_n_layers", "local_attention"),
    *("local_rope_theta", "classifier_activation"),
)
TEI_KEYS = {
    "bert": BERT_KEYS,
    "roberta": BERT_KEYS,
    "distilbert": (
        *("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "max_position_embeddings"),
        "pad_token_id",
    ),
    "mpnet": (
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "initializer_range"),
        *("layer_norm_eps", "relative_attention_num_buckets"),
    ),
    "modernbert": MODERNBERT_KEYS,
}
LENGTH_FILES = [
    f"sentence_{name}_config.json" for name in "bert roberta distilbert camembert albert xlm-roberta".split()
]


@dataclass(frozen=True)
class Computed:
    """What a program makes of token vectors, except for the scaling to length 1, which callers choose nearly all."""

    pooling: str | None
    mixes_layers: bool = False
    dense: tuple[str, ...] = ()
    """Folders of the dense layers."""
    full_attention: tuple[bool, ...] = ()
    """Of a ModernBERT: which layers attend to all tokens."""


def read(folder: Path, name: str) -> Any:
    """A JSON file; None if it is missing."""
    file = folder / name
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def modules(folder: Path) -> list[tuple[str, str]]:
    """Class name and path of each module."""
    return [(one["type"].removeprefix(PREFIX), one["path"]) for one in read(folder, "modules.json")]


def _flags(config: dict[str, Any]) -> list[str]:
    return [mode for flag, mode in FLAGS.items() if config.get(flag)]


def _is_full(config: dict[str, Any], every: int | None = None) -> tuple[bool, ...]:
    if config["model_type"] != "modernbert":
        return ()
    if every is None:
        return tuple(kind == "full_attention" for kind in config["layer_types"])
    return tuple(index % every == 0 for index in range(config["num_hidden_layers"]))


def sentence_transformers(folder: Path) -> Computed:
    """The student itself: every module applied."""
    config = read(folder, "config.json")
    found = Computed(pooling="mean", full_attention=_is_full(config) if config else ())
    for kind, path in modules(folder):
        if kind == "WeightedLayerPooling":
            found = replace(found, mixes_layers=True)
        elif kind == "Pooling":
            [mode] = _flags(read(folder, f"{path}/config.json"))
            found = replace(found, pooling=mode)
        elif kind == "Dense":
            found = replace(found, dense=(*found.dense, path))
    return found


def text_embeddings_inference(folder: Path) -> Computed | None:
    """The router and the candle backend on a CPU."""
    config = read(folder, "config.json")
    if config is None or not (folder / "tokenizer.json").is_file():
        return None
    kind = config["model_type"]
    if any(
        config.get(key) is None for key in ("architectures", "max_position_embeddings", *TEI_KEYS.get(kind, ("no",)))
    ):
        return None
    pooling = read(folder, "1_Pooling/config.json")  # this path, whatever modules.json says
    if pooling is None:
        mode = "cls" if "bert" in kind else None
    else:
        known = [mode for mode in ("cls", "mean", "lasttoken") if mode in _flags(pooling)]
        mode = known[0] if known else None
    lengths = [read(folder, name) for name in LENGTH_FILES if (folder / name).is_file()]
    prompts = read(folder, "config_sentence_transformers.json").get("prompts")
    if (
        mode in (None, "lasttoken")
        or not isinstance(lengths[0].get("max_seq_length"), int)
        or not all(isinstance(text, str) for text in prompts.values())
    ):
        return None
    kinds, dense = modules(folder), ()
    if {kind for kind, _ in kinds} <= {"Transformer", "Pooling", "Dense", "Normalize"}:
        dense = tuple(path for kind, path in kinds if kind == "Dense")
    for path in dense:
        layer = read(folder, f"{path}/config.json")
        if not {"in_features", "out_features", "bias"} <= layer.keys() or layer["activation_function"] not in (
            *("torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"),
        ):
            return None
    every = config.get("global_attn_every_n_layers")
    return Computed(pooling=mode, dense=dense, full_attention=_is_full(config, every))


def llama_cpp(folder: Path) -> Computed | None:
    """The converter to GGUF, without its list of known vocabularies, which no tiny model is on."""
    config = read(folder, "config.json")
    known = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "DistilBertModel", "ModernBertModel")
    if config is None or config["architectures"][0] not in known:
        return None
    first = next(path for kind, path in modules(folder) if kind.endswith("Pooling"))
    pooling = read(folder, f"{first}/config.json")
    mode = next((mode for mode in ("mean", "cls", "lasttoken") if mode in _flags(pooling)), None)
    if mode is None:
        return None
    return Computed(pooling=mode, full_attention=_is_full(config, config.get("global_attn_every_n_layers", 3)))


def ollama(folder: Path) -> Computed | None:
    """Its import of safetensors."""
    config = read(folder, "config.json")
    if config is None or config["architectures"][0] != "BertModel":
        return None
    pooling = next(path for kind, path in modules(folder) if kind == "Pooling")
    modes = _flags(read(folder, f"{pooling}/config.json"))
    return Computed(pooling=next((mode for mode in ("mean", "cls") if mode in modes), None))


def vllm(folder: Path) -> Computed | None:
    """Its pooling models."""
    config = read(folder, "config.json")
    known = ("BertModel", "RobertaModel", "XLMRobertaModel", "ModernBertModel")
    if config is None or config["architectures"][0] not in known:
        return None
    length = read(folder, "sentence_bert_config.json")
    assert {"max_seq_length", "do_lower_case"} <= length.keys(), "else it does not count"
    pooling = next(path for kind, path in modules(folder) if kind == "Pooling")
    modes = _flags(read(folder, f"{pooling}/config.json"))
    mode = next((mode for mode in ("cls", "mean", "lasttoken") if mode in modes), None)
    dense = tuple(path for kind, path in modules(folder) if kind == "Dense")
    return Computed(pooling=mode, dense=dense, full_attention=_is_full(config))


def transformers_js(folder: Path) -> Computed | None:
    """Its feature-extraction pipeline, on an ONNX file of the model; the caller names the pooling, if it has it."""
    config = read(folder, "config.json")
    if config is None or not (folder / "tokenizer.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        return None
    mode = sentence_transformers(folder).pooling
    return Computed(pooling=mode if mode in ("mean", "cls", "lasttoken") else None, full_attention=_is_full(config))


def transformers_4(folder: Path) -> Computed | None:
    """AutoModel and AutoTokenizer of 4.57, below sentence-transformers 5."""
    config, tokenizer = read(folder, "config.json"), read(folder, "tokenizer_config.json")
    if config is None or tokenizer["tokenizer_class"] == "TokenizersBackend" or "extra_special_tokens" in tokenizer:
        return None
    every = config.get("global_attn_every_n_layers", 3)
    return replace(sentence_transformers(folder), full_attention=_is_full(config, every))


READERS: dict[str, Callable[[Path], Computed | None]] = {
    "text-embeddings-inference": text_embeddings_inference,
    "llama.cpp": llama_cpp,
    "Ollama": ollama,
    "vLLM": vllm,
    "transformers.js": transformers_js,
    "transformers 4": transformers_4,
}


def verdicts(folder: Path) -> dict[str, str]:
    """What each program makes of a folder: the student's vectors (yes), other vectors, or nothing (no)."""
    right = sentence_transformers(folder)
    found = {}
    for name, rule in READERS.items():
        computed = rule(folder)
        found[name] = "no" if computed is None else "yes" if computed == right else "other vectors"
    return found
