"""A model in memory: sentences in, vectors out."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.lines import is_unicode
from distilcse_cli.errors import DataError
from distilcse_cli.jobs.called import called
from distilcse_cli.models.options import ModelOptions, Ref
from distilcse_cli.serving.settings import QueryMachine
from distilcse_cli.setting import check, settings_of

if TYPE_CHECKING:
    import numpy as np

    from distilcse_cli.models.embed import Embedder

_NO_LIMIT = 1 << 30


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """How a loaded model embeds."""

    max_length: Annotated[int | None, settings_of(EncodeSettings)["max_length"]] = None
    normalize: Annotated[bool | None, settings_of(EncodeSettings)["normalize"]] = None
    batch_tokens: Annotated[int | None, settings_of(EncodeSettings)["batch_tokens"]] = None

    def __post_init__(self) -> None:
        check(self)


class Model:
    """A loaded model. Threads may share it: their calls take turns. Make it with `load`."""

    def __init__(self, embedder: "Embedder") -> None:
        self._embedder = embedder
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        """The model as it was named."""
        return self._embedder.encoder.source

    @property
    def dimension(self) -> int:
        """Numbers in a vector, D."""
        return self._embedder.encoder.embedding_dim

    @property
    def max_length(self) -> int:
        """Most tokens of a sentence, special tokens included. Longer sentences are cut."""
        return self._embedder.max_length

    def encode(
        self,
        sentences: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        progress: bool = False,
    ) -> "np.ndarray":
        """Embed sentences. The rows are those of `distilcse encode`, to the byte.

        Sentences that are cut to `max_length` tokens are counted in a warning of the logger `distilcse_cli`.

        Args:
            sentences: N texts, or one.
            prompt: Text before every sentence. Default: that of `load`, else the folder's default prompt.
            prompt_name: A prompt of the model's folder, by its name.
            progress: Draw a bar on stderr, or in the notebook.

        Returns:
            (N, D) float32, row i of sentence i; of a single text (D,).

        Raises:
            UsageError: The folder has no prompt of that name.
            ModelError: A vector is not finite; its sentence is named.
            TypeError: A sentence is no text.
        """
        import numpy as np

        from distilcse_cli import console

        texts = _texts(sentences)
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        done = num_truncated = 0
        with self._lock, called(progress=progress):
            encoder = self._embedder.encoder
            loaded = encoder.prompts
            if prompt is not None or prompt_name is not None:
                encoder.prompts = loaded.choose(encoder.source, prompt, prompt_name)
            try:
                with console.Progress("encode", len(texts), "sentences") as bar:
                    for window in self._embedder.stream(texts):
                        rows[done : done + len(window.sentences)] = window.embeddings
                        done, num_truncated = done + len(window.sentences), num_truncated + window.num_truncated
                        bar.update(len(window.sentences))
            finally:
                encoder.prompts = loaded
            if num_truncated:
                console.warn(f"{num_truncated:,} of {len(texts):,} sentences were cut to {self.max_length} tokens")
        return rows[0] if isinstance(sentences, str) else rows

    def num_tokens(self, sentences: str | Iterable[str]) -> "np.ndarray":
        """Count the tokens of sentences before they are cut, special tokens and the prompt included.

        Returns:
            (N,) int64. Where it is larger than `max_length`, `encode` cuts the sentence.
        """
        from distilcse_cli.data.tokens import RowTokenizer

        encoder = self._embedder.encoder
        return RowTokenizer(encoder.tokenizer, _NO_LIMIT, encoder.prompts.used)(_texts(sentences))[1]

    def similarity(self, first: "np.ndarray", second: "np.ndarray") -> "np.ndarray":
        """(N, M) cosines of (N, D) vectors with (M, D) others."""
        from distilcse_cli.teacher.neighbours import unit_rows

        return unit_rows(first) @ unit_rows(second).T

    def __repr__(self) -> str:
        return f"<Model {self.source}: {self.dimension} numbers a sentence, at most {self.max_length} tokens>"


def _texts(sentences: str | Iterable[str]) -> Sequence[str]:
    if isinstance(sentences, Mapping) or hasattr(sentences, "columns"):  # list() would take the names of its columns
        raise TypeError(f"sentences are a table ({type(sentences).__name__}): give one of its columns")
    texts = [sentences] if isinstance(sentences, str) else list(sentences)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"sentence {number} is {type(text).__name__}, not a text")
        if not is_unicode(text):
            raise DataError(f"sentence {number} is not UTF-8", hint="it holds half of a surrogate pair: mend it")
    return texts


def load(model: Ref, *, model_options: ModelOptions, settings: LoadSettings, machine: QueryMachine) -> Model:
    """Load a model that embeds sentences.

    Args:
        model: Folder, catalogue name, hub id or file of weights; or what `distill`, `finetune` or `align` returned.

    Raises:
        ModelError: It cannot be found or loaded.
        NetworkError: It had to be downloaded, and was not.
        DeviceError: The device does not exist.
    """
    from distilcse_cli.models.embed import Embedder
    from distilcse_cli.runtime import choose_runtime

    runtime = choose_runtime(machine.device, machine.compute_dtype)
    encoder = model_options.of(os.fspath(model)).load(max_length=settings.max_length, light=True)
    encode = EncodeSettings(
        max_length=settings.max_length, normalize=settings.normalize, batch_tokens=settings.batch_tokens
    )
    return Model(Embedder(encoder, runtime, encode))
