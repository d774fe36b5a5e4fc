"""Stage 2's step: any split gives the same gradient; what is masked, kept near the teacher, and clamped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.tokens import tokenize
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.ranks import joined
from distilcse_cli.runtime import Runtime
from distilcse_cli.training.loop import train
from distilcse_cli.training.model import StudentModel
from distilcse_cli.training.settings import FinetuneSettings
from distilcse_cli.training.state import TrainState
from distilcse_cli.training.steps import NonFiniteLoss, StepRecord
from distilcse_cli.training.teacher_rows import StoredTeacher
from distilcse_cli.training.triples import Triples
from tests.tiny import WORDS
from tests.training.processes import run_all, start, start_group

FP32 = Runtime(device="cpu", dtype="float32", reason="test")
Tiny = Callable[..., Path]


def sentences(number: int) -> list[str]:
    """Distinct sentences of two to nine words."""
    generator = np.random.default_rng(0)
    return [f"{i} {' '.join(generator.choice(WORDS, generator.integers(1, 9)))}" for i in range(number)]


def prepared(
    tiny: Tiny,
    triples: np.ndarray,
    *,
    teacher: np.ndarray | None = None,
    teacher_dim: int | None = None,
    **changes: object,
) -> tuple[StudentModel, Triples]:
    """A tiny model, and triples of numbered sentences to train it on."""
    settings = FinetuneSettings(**{"lr": 1e-3, "batch_size": len(triples)} | changes)  # type: ignore[arg-type]
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    num_sentences = int(triples.max()) + 1
    if teacher is None and teacher_dim is not None:
        teacher = np.zeros((num_sentences, teacher_dim), dtype=np.float32)
    objective = Triples(
        tokens=tokenize(sentences(num_sentences), encoder.tokenizer, 64),
        rows=triples,
        settings=settings,
        runtime=FP32,
        student=encoder,
        teacher=None if teacher is None else StoredTeacher(teacher, FP32),
    )
    torch.manual_seed(0)
    return objective.new_model().eval(), objective


def learn(model: StudentModel, objective: Triples) -> list[StepRecord]:
    """Train to the end of the plan; the steps."""
    records: list[StepRecord] = []
    train(objective, TrainState(model), records.append)
    return records


def gradient(model: StudentModel, objective: Triples) -> tuple[list[float], torch.Tensor]:
    """Loss, masked pairs and cosines of one step over all triples, and the gradient of all that is trained."""
    model.zero_grad()
    sums = objective.backward(TrainState(model), objective.rows)
    return sums.tolist(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def differ(first: torch.Tensor, second: torch.Tensor) -> float:
    """Length of the difference of two gradients, relative to their own."""
    return float((first - second).norm() / first.norm())


TRIPLES = np.arange(96).reshape(32, 3)


def test_every_hard_negative_of_every_row_is_a_key(tiny: Tiny) -> None:
    rows = np.arange(24).reshape(6, 4)
    model, objective = prepared(tiny, rows)
    embeddings = Embedder(model.encoder, FP32, EncodeSettings(normalize=True)).sentences(sentences(24))
    anchors, *keys = (torch.from_numpy(embeddings[column]) for column in rows.T)
    # as sentence-transformers' MultipleNegativesRankingLoss: 6 positives and 12 negatives, the own positive is right
    scores = model.scale().item() * anchors @ torch.cat(keys).T
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(6)).item()
    assert scores.shape == (6, 18)
    assert gradient(model, objective)[0][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("columns", [3, 2, 4], ids=["triples", "pairs", "two negatives"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny: Tiny, columns: int) -> None:
    triples = np.arange(128).reshape(32, 4) if columns == 4 else TRIPLES[:, :columns]
    loss, whole = gradient(*prepared(tiny, triples, micro_batch_tokens=None))
    num_tokens = prepared(tiny, triples)[1].tokens.lengths[triples].sum()
    # a quarter of the batch at a time, then a few sentences, then one
    for budget in (int(num_tokens) // 4, 30, 1):
        part_loss, parts = gradient(*prepared(tiny, triples, micro_batch_tokens=budget))
        assert part_loss == pytest.approx(loss, rel=1e-6)
        assert differ(whole, parts) < 1e-6


def test_chunks_of_scores_give_the_gradient_of_the_whole_batch(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, whole = gradient(*prepared(tiny, TRIPLES))
    # 64 keys: anchors are scored five at a time, the last two alone
    monkeypatch.setattr("distilcse_cli.training.triples.CHUNK_SCORES", 5 * 64 + 1)
    part_loss, parts = gradient(*prepared(tiny, TRIPLES))
    assert part_loss == pytest.approx(loss, rel=1e-6)
    assert differ(whole, parts) < 1e-6


def test_keys_with_the_text_of_the_anchor_or_the_positive_are_masked_and_counted(tiny: Tiny) -> None:
    # keys in order: positives 1, 3, 1, negatives 2, 0, 4
    triples = np.array([[0, 1, 2], [1, 3, 0], [5, 1, 4]])
    # triple 0 (0, 1): the third positive, 1, and the second negative, 0
    # triple 1 (1, 3): the first and third positives, 1
    # triple 2 (5, 1): the first positive, 1
    (masked, num_hidden, *_), _ = gradient(*prepared(tiny, triples))
    (counted, none, *_), _ = gradient(*prepared(tiny, triples, mask_same_text=False))
    assert (num_hidden, none) == (5, 0)
    assert masked < counted


def test_near_its_teacher_the_student_pays_nothing_and_opposite_to_it_twice_the_weight(tiny: Tiny) -> None:
    model, objective = prepared(tiny, TRIPLES)
    own = Embedder(model.encoder, FP32, EncodeSettings(batch_tokens=999, normalize=False)).rows(objective.tokens)
    (plain, *_), plain_gradient = gradient(model, objective)
    (near, _, _, cosines), near_gradient = gradient(*prepared(tiny, TRIPLES, teacher=3 * own, keep_teacher=0.7))
    (far, *_), _ = gradient(*prepared(tiny, TRIPLES, teacher=-own, keep_teacher=0.7))
    # 1 - cos is 0 with its own direction, and 2 with the opposite one
    assert near == pytest.approx(plain, abs=1e-5)
    assert cosines == pytest.approx(32, abs=1e-4)  # 1 for each triple
    assert torch.allclose(near_gradient, plain_gradient, atol=1e-5)
    assert far == pytest.approx(plain + 0.7 * 2, abs=1e-5)


def test_kept_near_its_teacher_the_student_moves_less(tiny: Tiny) -> None:
    model, objective = prepared(tiny, TRIPLES)
    before = Embedder(model.encoder, FP32, EncodeSettings(batch_tokens=999, normalize=True)).rows(objective.tokens)
    cosines = []
    for weight in (0.0, 10.0):
        model, objective = prepared(tiny, TRIPLES, teacher=before, keep_teacher=weight, max_steps=10, epochs=10)
        learn(model, objective)
        after = Embedder(model.encoder, FP32, EncodeSettings(batch_tokens=999, normalize=True)).rows(objective.tokens)
        cosines.append(float((before * after).sum(axis=1).mean()))
    assert cosines[0] < cosines[1] < 1


def test_the_projection_starts_as_the_best_linear_map(tiny: Tiny) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 16, generator=generator)
    rows[:, 5:] = 0
    rows = functional.normalize(rows) * 3
    model, _ = prepared(tiny, TRIPLES, teacher_dim=5)
    # a teacher that is a linear map of the student is hit exactly, but for its length, which is the student's
    model.fit_projection(rows.numpy(), -7 * rows[:, :5].flip(1).numpy())
    assert torch.allclose(model.projected(rows), -rows[:, :5].flip(1), atol=1e-4)
    assert prepared(tiny, TRIPLES, teacher_dim=16)[0].projection is None


def test_the_gradient_reaches_a_projection_also_in_micro_batches(tiny: Tiny) -> None:
    teacher = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    grads = []
    for budget in (None, 30):
        model, objective = prepared(
            tiny, TRIPLES, teacher=teacher, teacher_dim=5, keep_teacher=1.0, micro_batch_tokens=budget
        )
        gradient(model, objective)
        assert model.projection is not None
        assert model.projection.weight.grad is not None
        grads.append(model.projection.weight.grad)
    assert grads[0].abs().max() > 0
    assert torch.allclose(*grads, atol=1e-6)


@pytest.mark.parametrize("exponential", [False, True])
def test_the_scale_is_learned_fixed_and_clamped(tiny: Tiny, exponential: bool) -> None:
    for learned in (True, False):
        model, objective = prepared(
            tiny, TRIPLES, exponential_scale=exponential, learn_logit_scale=learned, max_steps=3, epochs=3
        )
        learn(model, objective)
        assert (model.scale().item() == pytest.approx(20.0, abs=1e-6)) is not learned
    for value, clamped in ((1e9, 50.0), (-1e9, 0.02)):
        model, _ = prepared(tiny, TRIPLES, exponential_scale=exponential, max_logit_scale=50.0)
        with torch.no_grad():
            model.scale.value.fill_(value)
        model.scale.clamp()
        assert model.scale().item() == pytest.approx(clamped, rel=1e-5)


def test_training_learns_to_pick_the_positive(tiny: Tiny) -> None:
    model, objective = prepared(tiny, TRIPLES, epochs=30, lr=3e-3)
    records = learn(model, objective)
    assert records[-1].loss < records[0].loss / 4
    assert (records[-1].step, records[-1].num_steps, records[-1].num_sentences) == (30, 30, 96)
    assert records[-1].num_tokens == objective.tokens.lengths.sum()


def test_batches_hold_triples_of_about_one_length(tiny: Tiny) -> None:
    _, objective = prepared(tiny, TRIPLES, batch_size=4)
    plan = objective.plan
    lengths = objective.tokens.lengths[TRIPLES].sum(axis=1)
    spans = [int(np.ptp(lengths[plan.batch(step)])) for step in range(8)]
    assert sum(spans) == np.ptp(lengths) - sum(
        np.diff(np.sort(lengths))[3::4]  # sorted and cut: what lies between two batches is in neither's span
    )


def test_a_loss_that_is_not_finite_names_the_step_and_leaves_the_weights(tiny: Tiny) -> None:
    model, objective = prepared(tiny, TRIPLES)
    with torch.no_grad():
        model.scale.value.fill_(torch.nan)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    with pytest.raises(NonFiniteLoss, match="step 1: the loss is nan"):
        learn(model, objective)
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def _train_rank(folder: Path, batch_size: int, report: Path) -> None:
    teacher = np.random.default_rng(0).normal(size=(31, 5)).astype(np.float32)
    triples = np.arange(33).reshape(11, 3) % 31
    model, objective = prepared(
        lambda _: folder,
        triples,
        teacher=teacher,
        teacher_dim=5,
        keep_teacher=0.5,
        batch_size=batch_size,
        epochs=2,
        micro_batch_tokens=40,
    )
    with joined(FP32) as ranks:
        records = learn(model, replace(objective, ranks=ranks))
        if ranks.is_main:
            names = "loss grad_norm scale positive_cosine teacher_cosine num_hidden num_sentences".split()
            seen = [[getattr(record, name) for name in names] for record in records]
            report.write_text(json.dumps(seen))


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(tiny: Tiny, tmp_path: Path) -> None:
    folder, one, two = tiny("bert"), tmp_path / "one.json", tmp_path / "two.json"
    # 11 triples, ten in a step: of each epoch one step has one triple, so that one of two processes has none
    assert run_all([start(_train_rank, folder, 10, one)]) == [0]
    assert run_all(start_group(2, _train_rank, folder, 5, two)) == [0, 0]
    alone, together = json.loads(one.read_text()), json.loads(two.read_text())
    assert sorted(step[-1] for step in alone) == [3, 3, 30, 30]
    for expected, found in zip(alone, together, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
