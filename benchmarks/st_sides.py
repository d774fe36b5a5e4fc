"""Sides with sentence-transformers: its `encode` and its trainer. They need no package of this project."""

import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer

from benchmarks.peer import StepClock

MAX_LENGTH = 64
"""Most tokens of a sentence in training, as in ours."""
BATCHES = (32, 128)
"""Batch sizes to try before the first round: the library's default and a large one."""
QUIET: dict[str, Any] = {
    "use_cpu": True,
    "optim": "adamw_torch_fused",
    "save_strategy": "no",
    "eval_strategy": "no",
    "logging_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
}
"""Settings of the trainer: on the CPU, with nothing between the steps."""


class STEncode:
    """`SentenceTransformer.encode`.

    Args:
        model: folder.
        sentences: JSON file of a list of sentences.
        rows: folder for the embeddings, for their cosines.
        dtype: of the weights, `float32` or `bfloat16`.
        batch_size: None takes the one of `BATCHES` that is faster on some of the sentences.
    """

    def __init__(self, *, model: str, sentences: str, rows: str, dtype: str, batch_size: int | None) -> None:
        self.sentences = json.loads(Path(sentences).read_text(encoding="utf-8"))
        self.model = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
        sample = self.sentences[:: max(1, len(self.sentences) // 512)]
        self._encode(sample, BATCHES[0])  # a warm-up; without it the first batch size would look slow
        rates = {}
        for size in BATCHES if batch_size is None else ():
            started = time.perf_counter()
            self._encode(sample, size)
            rates[size] = len(sample) / (time.perf_counter() - started)
        self.batch_size = batch_size or max(rates, key=rates.__getitem__)
        self.rows = Path(rows) / f"sentence-transformers-{dtype}.npy"
        self.facts = {"batch_size": self.batch_size, "rows": str(self.rows), **_versions_and_threads("torch")}

    def run(self) -> dict[str, Any]:
        """Embed all sentences."""
        np.save(self.rows, self._encode(self.sentences, self.batch_size))
        return {"num": len(self.sentences)}

    def _encode(self, sentences: list[str], batch_size: int) -> np.ndarray:
        rows = self.model.encode(sentences, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
        return rows.float().numpy()


class STTrainer:
    """Slices of training with `SentenceTransformerTrainer`.

    Args:
        model: folder of the student.
        data: JSON file of a dict of columns.
        labels: `.npy` file of teacher rows: learn them by MSE. None contrasts triples.
        batch_size, num_warmup, num_steps: of a slice.
        bf16: autocast, an option of the trainer.
        tuned: eager attention and no dropout as well; the trainer has no options for these.
    """

    def __init__(
        self,
        *,
        model: str,
        data: str,
        labels: str | None = None,
        batch_size: int,
        num_warmup: int,
        num_steps: int,
        bf16: bool,
        tuned: bool,
    ) -> None:
        from sentence_transformers.sentence_transformer import losses

        self.data = _dataset(data, labels)
        self.model = _student(model, eager=tuned, dropout=not tuned)
        self.model.max_seq_length = MAX_LENGTH
        distils = labels is not None
        self.loss = losses.MSELoss(self.model) if distils else losses.MultipleNegativesRankingLoss(self.model)
        self.batch_size, self.num_warmup, self.num_steps = batch_size, num_warmup, num_steps
        self.bf16 = bf16
        self.round = 0
        self.facts = {"loss": type(self.loss).__name__, **_versions_and_threads("accelerate")}

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        self.round += 1
        clock = StepClock(self.num_warmup)
        with tempfile.TemporaryDirectory() as folder:
            settings = sentence_transformers.SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=self.num_warmup + self.num_steps,
                per_device_train_batch_size=self.batch_size,
                bf16=self.bf16,
                seed=self.round,
                **QUIET,
            )
            sentence_transformers.SentenceTransformerTrainer(
                model=self.model,
                args=settings,
                train_dataset=self.data,
                loss=self.loss,
                callbacks=[_Ticks(clock, self.batch_size)],
            ).train()
        return clock.figures()


class STStudent:
    """A student trained with `SentenceTransformerTrainer` as its layer-reduction example does, and saved.

    Args:
        model: folder of the layers that the student keeps.
        data, labels: as in `STTrainer`.
        out: folder for the student.
        loss: `mse` or `cosine`.
        lr, batch_size, seed: of one epoch whose learning rate rises over a tenth of the steps, then falls.
        max_length: most tokens of a sentence in training; None keeps the model's.
        bf16: autocast.
        eager: attention as plain products.
        dropout: as the model has it; False turns it off.
    """

    def __init__(self, *, model: str, data: str, labels: str, eager: bool, dropout: bool, **settings: Any) -> None:
        self.data, self.model = _dataset(data, labels), _student(model, eager=eager, dropout=dropout)
        self.settings = settings
        self.facts = _versions_and_threads("accelerate")

    def run(self) -> dict[str, Any]:
        """Train and save; `cpu_seconds` are those of the trainer, user and system."""
        from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss

        settings, own_length = self.settings, self.model.max_seq_length
        self.model.max_seq_length = settings["max_length"] or own_length
        with tempfile.TemporaryDirectory() as folder:
            trainer = sentence_transformers.SentenceTransformerTrainer(
                model=self.model,
                args=sentence_transformers.SentenceTransformerTrainingArguments(
                    output_dir=folder,
                    num_train_epochs=1,
                    per_device_train_batch_size=settings["batch_size"],
                    learning_rate=settings["lr"],
                    warmup_steps=0.1,
                    bf16=settings["bf16"],
                    seed=settings["seed"],
                    **QUIET,
                ),
                train_dataset=self.data,
                loss=EmbedDistillLoss(self.model, distance_metric=settings["loss"]),
            )
            started = time.process_time()
            trainer.train()
            cpu_seconds = time.process_time() - started
        self.model.max_seq_length = own_length
        self.model.save(settings["out"])
        return {"num": len(self.data), "cpu_seconds": cpu_seconds}


class _Ticks(transformers.TrainerCallback):
    def __init__(self, clock: StepClock, batch_size: int) -> None:
        self._clock, self._batch_size = clock, batch_size

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.tick(self._batch_size)


def _versions_and_threads(package: str) -> dict[str, Any]:
    packages = ("sentence-transformers", "transformers", package)
    return {"versions": {name: version(name) for name in packages}, "threads": torch.get_num_threads()}


def _dataset(data: str, labels: str | None) -> Any:
    import datasets

    columns = json.loads(Path(data).read_text(encoding="utf-8"))
    if labels is not None:
        columns["label"] = list(np.load(labels, allow_pickle=False))
    return datasets.Dataset.from_dict(columns)


def _student(model: str, *, eager: bool, dropout: bool) -> SentenceTransformer:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return SentenceTransformer(
        model,
        device="cpu",
        model_kwargs={"attn_implementation": "eager"} if eager else {},
        config_kwargs={} if dropout else dict.fromkeys(names, 0.0),
    )
