"""What a user would pick instead: sentence-transformers' own trainer. Needs no package of this project."""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer import losses

from benchmarks.steps import StepClock


class _Ticks(transformers.TrainerCallback):
    def __init__(self, clock: StepClock, batch_size: int) -> None:
        self._clock, self._batch_size = clock, batch_size

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._clock.tick(self._batch_size)


class STTrainer:
    """Slices of training; its arguments say on what.

    Args:
        model: folder of the student.
        data: JSON file of a dict of columns.
        labels: `.npy` file of teacher rows, for distillation.
        batch_size, num_warmup, num_steps: of a slice.
        bf16: autocast, the trainer's own option.
        tuned: eager attention and no dropout as well, which are no options of the trainer.
        max_length: most tokens of a sentence.
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
        max_length: int = 64,
    ) -> None:
        columns = json.loads(Path(data).read_text(encoding="utf-8"))
        if labels is not None:
            columns["label"] = list(np.load(labels, allow_pickle=False))
        self.data = datasets.Dataset.from_dict(columns)
        dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        self.model = sentence_transformers.SentenceTransformer(
            model,
            device="cpu",
            model_kwargs={"attn_implementation": "eager"} if tuned else {},
            config_kwargs=dict.fromkeys(dropout, 0.0) if tuned else {},
        )
        self.model.max_seq_length = max_length
        distils = labels is not None
        self.loss = losses.MSELoss(self.model) if distils else losses.MultipleNegativesRankingLoss(self.model)
        self.sizes = batch_size, num_warmup, num_steps
        self.bf16 = bf16
        self.round = 0
        self.facts = {
            "versions": {name: version(name) for name in ("sentence-transformers", "transformers", "accelerate")},
            "loss": type(self.loss).__name__,
            "threads": torch.get_num_threads(),
        }

    def run(self) -> dict[str, Any]:
        """Train a slice on other batches than the last one."""
        batch_size, num_warmup, num_steps = self.sizes
        self.round += 1
        with tempfile.TemporaryDirectory() as folder:
            settings = sentence_transformers.SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=num_warmup + num_steps,
                per_device_train_batch_size=batch_size,
                bf16=self.bf16,
                use_cpu=True,
                optim="adamw_torch_fused",
                save_strategy="no",
                eval_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=self.round,
            )
            clock = StepClock(num_warmup)
            sentence_transformers.SentenceTransformerTrainer(
                model=self.model,
                args=settings,
                train_dataset=self.data,
                loss=self.loss,
                callbacks=[_Ticks(clock, batch_size)],
            ).train()
        return clock.figures()
