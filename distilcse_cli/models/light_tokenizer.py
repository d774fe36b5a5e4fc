"""The WordPiece tokenizer of a BERT without transformers, beside `models.light`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distilcse_cli.models.light import read_object

_WORD_PIECE = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
_SPECIAL = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


class LightTokenizer:
    """The Rust tokenizer of a folder, with what transformers' wrapper tells those who embed."""

    is_fast = True

    def __init__(self, folder: Path, backend: Any, settings: Mapping[str, Any], special: Mapping[str, str]) -> None:
        self.backend_tokenizer = backend
        self.name_or_path = str(folder)
        self.init_kwargs: dict[str, Any] = {}
        self.truncation_side = settings.get("truncation_side", "right")
        self.model_max_length = settings.get("model_max_length", 10**30)
        ids = {name: backend.token_to_id(token) for name, token in special.items()}
        self.pad_token_id, self.unk_token_id = ids["pad_token"], ids["unk_token"]
        self.all_special_ids = sorted(set(ids.values()))

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Tokens and their ids."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def num_special_tokens_to_add(self) -> int:
        """Special tokens around a sentence."""
        return self.backend_tokenizer.num_special_tokens_to_add(is_pair=False)


def light_tokenizer(folder: Path) -> LightTokenizer | None:
    """Load the WordPiece tokenizer of a BERT; None if transformers might make something else of the folder."""
    from tokenizers import Tokenizer

    settings, described = read_object(folder / "tokenizer_config.json"), read_object(folder / "tokenizer.json")
    if settings is None or described is None or not _is_plain(settings, described):
        return None
    special: dict[str, Any] = {name: settings.get(name) for name in _SPECIAL}
    older = folder / "special_tokens_map.json"
    if older.exists() and read_object(older) != special:
        return None
    try:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # its parser raises nothing narrower
        return None
    if not all(isinstance(token, str) and backend.token_to_id(token) is not None for token in special.values()):
        return None
    return LightTokenizer(folder, backend, settings, special)


def _is_plain(settings: Mapping[str, Any], described: Mapping[str, Any]) -> bool:
    """Whether both files tell of the same BERT tokenizer, and of no tokens beside its vocabulary."""
    normalizer = described.get("normalizer") or {}
    model, added = described.get("model") or {}, described.get("added_tokens") or []
    same = {
        "lowercase": settings.get("do_lower_case", True),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
        "clean_text": True,
    }
    return (
        settings.get("tokenizer_class") in ("BertTokenizer", "BertTokenizerFast")
        and not settings.get("extra_special_tokens")
        and not settings.get("additional_special_tokens")
        and not settings.get("auto_map")
        and not settings.get("never_split")
        and normalizer.get("type") == "BertNormalizer"
        and all(normalizer.get(key) == value for key, value in same.items())
        and (described.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and _frame(described.get("post_processor") or {})
        == [settings.get("cls_token"), None, settings.get("sep_token")]
        and {key: value for key, value in model.items() if key != "vocab"}
        == {**_WORD_PIECE, "unk_token": settings.get("unk_token")}
        and {token.get("content") for token in added} <= {settings.get(name) for name in _SPECIAL}
    )


def _frame(processor: Mapping[str, Any]) -> list[str | None] | None:
    """Special tokens around a sentence, None for the sentence itself; None of another kind of processor."""
    if processor.get("type") != "TemplateProcessing":
        return None
    return [part.get("SpecialToken", {}).get("id") for part in processor.get("single", ())]
