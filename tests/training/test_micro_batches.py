"""A batch in parts has the gradient of the whole, for every loss."""

import numpy as np
import pytest
import torch

from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.bank import MemoryBank
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.settings import CONTRASTIVE_LOSSES, LOSSES, DistillSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.teacher_rows import StoredTeacher
from tests.tiny import WORDS

FP32 = Runtime(device="cpu", dtype="float32", reason="test")


@pytest.mark.parametrize("loss", LOSSES)
def test_one_times_32_is_four_times_8(tiny, loss: str) -> None:  # type: ignore[no-untyped-def]
    generator = np.random.default_rng(0)
    # 4 words and 2 special tokens each, so a budget of 48 tokens is 8 sentences
    sentences = [" ".join(generator.choice(WORDS, size=4)) for _ in range(32)]
    teacher = generator.standard_normal((32, 24)).astype(np.float32)
    gradients = []
    for budget, num_parts in ((None, 1), (48, 4)):
        settings = DistillSettings(
            loss=loss, logit_scale=6.0, bank_size=20, false_negative_cosine=0.4, micro_batch_tokens=budget
        )
        encoder = load_encoder(str(tiny("bert", width=16)), pooler="avg")
        torch.manual_seed(0)
        objective = Distillation(
            tokens=tokenize(sentences, encoder.tokenizer, 64),
            teacher=StoredTeacher(teacher, FP32),
            rows=np.arange(32),
            settings=settings,
            runtime=FP32,
            student=encoder,
        )
        model = objective.new_model()
        assert len(objective._micro_batches(np.arange(32))) == num_parts
        bank = MemoryBank(20, 24, dtype=torch.float32)
        bank.push(torch.nn.functional.normalize(torch.from_numpy(teacher[:20]), dim=1), np.arange(20))
        state = TrainState(model, bank if loss in CONTRASTIVE_LOSSES else None)
        sums = objective.backward(state, np.arange(32))
        gradients.append({"sums": sums} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    whole, parts = gradients
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], rtol=1e-5, atol=1e-6), name
