"""Load a backbone with transformers, and check it.

transformers fills missing weights with random numbers. Here that is an error. Code that comes with a
model is never run.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from distilcse_cli import console
from distilcse_cli.errors import ModelError
from distilcse_cli.files import read_json
from distilcse_cli.models.sizes import require_plausible_layers, require_plausible_weights

_BERT_KIND = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
_NAMES_SHOWN = 3
DAMAGED = "the folder is damaged, incomplete, or made for another version of transformers"
NO_ENCODER = "name an encoder such as a BERT, RoBERTa, DistilBERT, MPNet or ModernBERT"
_MERGE = "merge the adapter into the model (peft: merge_and_unload) and save that"
_ADAPTER = re.compile(r"lora_|^base_model\.model\.")
_CONSTANTS = (".position_ids", ".token_type_ids", ".inv_freq", ".attn.bias", ".masked_bias")
"""Constants that older versions of transformers also saved."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the screen.

    A bar would count the tensors of a local file without naming the model, amid the output of a command that loads
    three models.
    """
    if "transformers" not in sys.modules:  # then it says nothing, and importing it would take seconds
        yield
        return
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_backbone(folder: Path, **config_args: Any) -> Any:
    """Load a transformers encoder in fp32, eval mode, with fused attention if it has that.

    Its `pooler` has no weights if the checkpoint has none for it.

    Args:
        folder: with config.json and the weights.
        config_args: replace fields of config.json.

    Raises:
        ModelError: not loadable, an encoder-decoder, weights are missing, of another shape or not used, or an
            adapter is beside them.
    """
    from transformers import AutoModel

    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} has an adapter beside its weights, which is not applied", hint=_MERGE)
    config = load_config(folder, **config_args)
    _require_encoder(config, folder)
    require_plausible_weights(folder, config)
    with quiet_transformers():
        try:
            model, info = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # `info` names them, the exception would not
            )
        except Exception as error:  # whatever it is, the folder's files are at fault
            raise _not_loadable(folder, error) from error
    for name, in_file, expected in info["mismatched_keys"]:
        shapes = f"{tuple(in_file)} in the file and {tuple(expected)} by config.json"
        raise ModelError(f"{folder}: the shape of {name} is {shapes}", hint="they are of different models")
    missing = sorted(info["missing_keys"])
    lost = [name for name in missing if not name.startswith("pooler.")]
    if lost:
        raise ModelError(f"{folder} lacks {len(lost)} weights of a {config.model_type}: {_some(lost)}", hint=DAMAGED)
    unused = _unused(model, info["unexpected_keys"])
    if unused:
        raise ModelError(
            f"{folder} has {len(unused)} tensors that its config.json has no place for: {_some(unused)}",
            hint=_MERGE if _ADAPTER.search(unused[0]) else "the two are of different models",
        )
    if missing:
        drop_pooler(model)
    require_finite(folder, model.state_dict())
    return model.eval()


def _unused(model: Any, unexpected: Iterable[str]) -> list[str]:
    """The unexpected tensors that belong to the encoder itself, not to a head that was trained with it."""
    roots = {name.partition(".")[0] for name in model.state_dict()} - {"pooler"}
    unused = []
    for name in sorted(unexpected):
        root = name.removeprefix(f"{model.base_model_prefix}.").partition(".")[0]
        if _ADAPTER.search(name) or (root in roots and not name.endswith(_CONSTANTS)):
            unused.append(name)
    return sorted(unused, key=lambda name: not _ADAPTER.search(name))


def _require_encoder(config: Any, source: object) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{source} is an encoder-decoder ({config.model_type}), not a sentence encoder", hint=NO_ENCODER
        )
    positions = getattr(config, "position_embedding_type", None)
    if positions not in (None, "absolute") and not hasattr(type(config)(), "position_embedding_type"):
        raise ModelError(
            f"{source} has {positions} position embeddings, which transformers no longer has for a {config.model_type}",
            hint=NO_ENCODER,
        )


def drop_pooler(backbone: Any) -> None:
    """Take a backbone's pooler away, if it has one."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = torch.nn.Identity()  # not None: SqueezeBERT calls its pooler in any case


def require_finite(source: object, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that no weight is NaN or infinite: one of them would spread to every embedding.

    Raises:
        ModelError: naming the first such tensor of `source`.
    """
    for name, tensor in tensors.items():
        # a sum is read at the speed of memory, and is finite unless a number in it is not
        if not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise ModelError(f"{name} in {source} has NaN or infinity", hint="fetch or make it again")


def load_config(folder: Path, **replaced: Any) -> Any:
    """Load the configuration of a transformers model, with some fields replaced.

    Raises:
        ModelError: there is none, it cannot be read, or it describes more layers than there are tensors.
    """
    from transformers import AutoConfig

    require_plausible_layers(folder)
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **replaced)
        except Exception as error:
            raise _not_loadable(folder, error) from error
    _leave_code_out(folder, config)
    if (
        config.model_type == "modernbert"
        and {"layer_types", "global_rope_theta"} <= read_json(folder / "config.json").keys()
    ):
        # a student's, and said once more for other programs; `layer_types` is what counts
        vars(config).pop("global_attn_every_n_layers", None)
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0  # the numbers are the same, and a width need not be a multiple of it
    if getattr(config, "_attn_implementation", None) not in (None, "eager", "sdpa"):
        config._attn_implementation = None  # it could name code on the hub
    return config


def build_backbone(config: Any) -> Any:
    """Make an encoder of this configuration, in fp32; its weights must be filled in afterwards.

    Raises:
        ModelError: the configuration contradicts itself, or is not that of an encoder.
    """
    from transformers import AutoModel

    _require_encoder(config, config.model_type)
    with quiet_transformers():
        try:
            return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
        except Exception as error:
            raise ModelError(f"cannot build a {config.model_type}: {first_line(error)}", hint=NO_ENCODER) from error


def _leave_code_out(folder: Path, config: Any) -> None:
    """Warn that a model's own code is not run, and drop its address, so that no student carries it on."""
    if getattr(config, "auto_map", None):
        console.warn(f"{folder} brings its own code, which is not run: read as transformers' own {config.model_type}")
        del config.auto_map


def _not_loadable(folder: Path, error: Exception) -> ModelError:
    if "custom code" in str(error):
        return ModelError(
            f"cannot load {folder}: it brings its own code, which is never run",
            hint="name a model of an architecture that transformers has itself",
        )
    return ModelError(f"cannot load {folder}: {first_line(error)}", hint=DAMAGED)


def is_bert_kind(backbone: Any) -> bool:
    """Whether its layers have BERT's structure and names, so that other code can compute them.

    These architectures differ in their embedding layers, which have to be run as they are.
    """
    return backbone.config.model_type in _BERT_KIND and not backbone.config.is_decoder


def num_embeddings(backbone: Any) -> int:
    """Rows of the table of token embeddings.

    Raises:
        ModelError: it has no such table.
    """
    try:
        return len(backbone.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError, TypeError) as error:
        kind = backbone.config.model_type
        raise ModelError(f"{kind} has no table of token embeddings", hint=NO_ENCODER) from error


def num_positions(backbone: Any) -> int | None:
    """Longest input the position embeddings allow; None without a limit."""
    try:
        limit = getattr(backbone.config, "max_position_embeddings", None)
    except NotImplementedError:  # XLNet's way to say that it has none
        limit = None
    if limit is None or limit <= 0:
        return None
    # RoBERTa's kind counts positions from the padding token's id + 1; XLM's `embeddings` is only its table of tokens
    embeddings = getattr(backbone, "embeddings", None)
    padding = None if isinstance(embeddings, torch.nn.Embedding) else getattr(embeddings, "padding_idx", None)
    return limit if padding is None else limit - padding - 1


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
