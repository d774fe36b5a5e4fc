"""The settings of a Transformer module, `sentence_bert_config.json`: each is followed, harmless, or refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilcse_cli.errors import ModelError

_OLD_NAMES = {"model_args": "model_kwargs", "tokenizer_args": "processor_kwargs", "config_args": "config_kwargs"}
_HARMLESS = frozenset({"unpad_inputs", "query_length", "document_length", "query_expansion", "cache_dir"})
"""They change speed, or only what is asked for with a task."""
_TOKENIZER_ARGS = frozenset(
    {"model_max_length", "truncation_side", "do_lower_case", "strip_accents", "tokenize_chinese_chars"}
)
_IMAGES = frozenset({"image", "audio", "video", "chat_template"})
_LOADING = frozenset(
    {"cache_dir", "local_files_only", "low_cpu_mem_usage", "trust_remote_code", "use_fast", "use_safetensors"}
)
"""Arguments that say how files are found, not what is computed."""


@dataclass(kw_only=True)
class ModuleSettings:
    """What a Transformer module sets besides the files of transformers."""

    max_length: int | None = None
    """Most tokens of a sentence."""
    lower_case: bool = False
    """Whether text is lower-cased before the tokenizer gets it."""
    tokenizer_args: dict[str, Any] = field(default_factory=dict)
    """For `AutoTokenizer.from_pretrained`."""
    config_args: dict[str, Any] = field(default_factory=dict)
    """For `AutoConfig.from_pretrained`."""


def module_settings(file: Path, settings: Mapping[str, Any]) -> ModuleSettings:
    """Read the settings of a module.

    Raises:
        ModelError: one of them may change the embeddings, and cannot be followed.
    """
    read = ModuleSettings(lower_case=bool(settings.get("do_lower_case")))
    read.max_length = _length(file, "max_seq_length", settings.get("max_seq_length"))
    for key, value in settings.items():
        name = _OLD_NAMES.get(key, key)
        if key in ("max_seq_length", "do_lower_case") or key in _HARMLESS or value is None or value == {}:
            continue
        if name == "config_kwargs":
            read.config_args = _each(file, key, value, lambda one, _: not one.startswith(("_", "auto_map", "attn_")))
        elif name == "processor_kwargs":
            read.tokenizer_args = _each(file, key, value, lambda one, _: one in _TOKENIZER_ARGS)
        elif name == "model_kwargs":
            _each(file, key, value, _is_harmless_to_a_model)
        elif name == "processing_kwargs":
            _processing(file, read, value)
        elif not _is_default(name, value):
            raise _refused(file, key, value)
    limit = _length(file, "model_max_length", read.tokenizer_args.get("model_max_length"))
    read.max_length = read.max_length if limit is None else limit
    return read


def _is_default(name: str, value: Any) -> bool:
    if name == "modality_config":
        text = {"method": "forward", "method_output_name": "last_hidden_state"}
        return isinstance(value, dict) and value.get("text") == text and "message" not in value
    return (name, value) in (("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings"))


def _is_harmless_to_a_model(name: str, value: Any) -> bool:
    return (name, value) == ("add_pooling_layer", False) or (
        value in ("auto", "float32") if name in ("dtype", "torch_dtype") else name.startswith("attn_implementation")
    )


def _processing(file: Path, read: ModuleSettings, value: Any) -> None:
    for kind, given in _each(file, "processing_kwargs", value, lambda *_: True).items():
        if kind in _IMAGES:
            continue
        if kind not in ("text", "common"):
            raise _refused(file, f"processing_kwargs.{kind}", given)
        for name, one in _each(file, f"processing_kwargs.{kind}", given, _is_known_to_a_call).items():
            if name == "max_length":
                read.max_length = _length(file, name, one)


def _is_known_to_a_call(name: str, value: Any) -> bool:
    usual = {"padding": (True, "longest"), "truncation": (True, "longest_first"), "return_tensors": ("pt",)}
    return name == "max_length" or value in usual.get(name, ())


def _each(file: Path, key: str, value: Any, is_good: Callable[[str, Any], bool]) -> dict[str, Any]:
    """The arguments that count, each of which must be good."""
    if not isinstance(value, dict):
        raise _refused(file, key, value)
    found = {name: one for name, one in value.items() if name not in _LOADING}
    for name, one in found.items():
        if not is_good(name, one):
            raise _refused(file, f"{key}.{name}", one)
    return found


def _length(file: Path, name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
        raise ModelError(f"{file} has a {name} of {value!r}", hint="the model folder is damaged")
    return value


def _refused(file: Path, key: str, value: Any) -> ModelError:
    text = repr(value)
    shown = text if len(text) <= 60 else text[:59] + "…"
    return ModelError(
        f"{file} sets {key} to {shown}, which may change the embeddings and is not supported",
        hint="use another model, or take the setting out if its embeddings do not depend on it",
    )
