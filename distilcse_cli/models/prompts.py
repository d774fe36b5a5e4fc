"""Prompts, the texts that go before every sentence: what a folder says of them, and which one is in use."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distilcse_cli import console
from distilcse_cli.errors import ModelError, UsageError


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """A model's prompts as `config_sentence_transformers.json` has them, and the one in use."""

    named: Mapping[str, str] = field(default_factory=dict)
    """Texts by name."""
    default: str | None = None
    """Name of the prompt that is used unless another one is asked for."""
    similarity: str = "cosine"
    """How the model's embeddings are compared, by sentence-transformers' name; kept for its students."""
    pooled: bool = True
    """Whether the pooling counts the tokens of a prompt."""
    used: str = ""
    """The text in use; empty for none."""

    def choose(self, ref: str, text: str | None, name: str | None) -> "Prompts":
        """With the text asked for in use, else the one of that name, else the default.

        Raises:
            UsageError: `ref` has no prompt of that name.
            ModelError: its pooling leaves prompts out.
        """
        whose = ", its default prompt," if text is None and name is None else ""
        if text is None:
            name = self.default if name is None else name
            if name is not None and name not in self.named:
                known = ", ".join(self.named) or "none"
                raise UsageError(f"{ref} has no prompt named {name!r}", hint=f"it has {known}; --prompt takes any text")
            text = "" if name is None else self.named[name]
        if text and not self.pooled:
            raise ModelError(f"{ref} leaves prompts out of its pooling, which is not supported", hint="--prompt ''")
        if text:
            console.log(f"{ref}: {text!r}{whose} is put before every sentence")
        return replace(self, used=text)

    def as_dict(self) -> dict[str, Any]:
        """For the folder of a student: the prompt in use, with which it was trained, is its default."""
        named, default = dict(self.named), self.default
        if self.used != named.get(default or "", ""):
            default = next((name for name, text in named.items() if text == self.used), "default")
            named[default] = self.used
        return {"prompts": named, "default_prompt_name": default, "similarity_fn_name": self.similarity}


def read_prompts(file: object, settings: Mapping[str, Any]) -> Prompts:
    """Read the prompts in the content of `file`, a config_sentence_transformers.json.

    Raises:
        ModelError: they are no texts by name, or the default names none of them.
    """
    named, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    similarity = settings.get("similarity_fn_name")
    damaged = f"{file} has no texts by name as its prompts"
    if isinstance(named, dict):
        named = {name: text for name, text in named.items() if text is not None}
        if all(isinstance(text, str) for text in named.values()):
            if default is None or (isinstance(default, str) and default in named):
                return Prompts(
                    named=named, default=default, similarity=similarity if isinstance(similarity, str) else "cosine"
                )
            damaged = f"the default_prompt_name of {file}, {default!r}, is none of its prompts"
    raise ModelError(damaged, hint="the model folder is damaged")
