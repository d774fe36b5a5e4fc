"""One fit after another: the protocol's counting, seeds and held-out rows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from senteval import batched, classifier
from senteval.batched import fit_batched
from senteval.classifier import ClassifierSettings, Fit, Fold, fit_sequentially, train_and_dev_rows
from senteval.optimizers import parse_optimizer

Train = Callable[..., list[list[Fit]]]
both = pytest.mark.parametrize("train", [fit_sequentially, fit_batched])


def separable(num_rows: int) -> tuple[Tensor, Tensor]:
    """Two classes that any step in the right direction tells apart."""
    y = torch.arange(num_rows) % 2
    return torch.stack([20.0 * y - 10.0, torch.zeros(num_rows)], dim=1), y


def halves(num_rows: int) -> Fold:
    rows = np.arange(num_rows)
    return Fold(rows[: num_rows // 2], rows[num_rows // 2 :], (1e-5,))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every permutation drawn, one a pass."""
    drawn: list[int] = []

    class Counting(np.random.RandomState):
        def permutation(self, x: int) -> np.ndarray:  # type: ignore[override]
            drawn.append(x)
            return super().permutation(x)

    monkeypatch.setattr(classifier, "row_order", Counting)
    monkeypatch.setattr(batched, "row_order", Counting)
    return drawn


@both
def test_a_fit_stops_at_the_first_failure_beyond_its_tenacity(train: Train, passes: list[int]) -> None:
    settings = ClassifierSettings(tenacity=5, epoch_size=4)
    [[fit]] = train(*separable(40), [halves(40)], settings, 2)
    assert fit.dev_accuracy == 1.0
    # best at the first evaluation; 5 failures are forgiven and the 6th stops: 7 evaluations of 4 passes
    assert passes == [20] * 28
    assert fit.num_steps == 28  # 20 rows are one batch


@both
def test_passes_begin_until_more_than_max_epoch_are_done(train: Train, passes: list[int]) -> None:
    settings = ClassifierSettings(tenacity=100, epoch_size=4, max_epoch=8)
    train(*separable(40), [halves(40)], settings, 2)
    # 4, 8 (not more than 8, so on), 12
    assert passes == [20] * 12


@both
def test_held_out_rows_are_the_head_of_the_first_permutation(train: Train, passes: list[int]) -> None:
    train(*separable(40), [Fold(np.arange(40), None, (1e-5,))], ClassifierSettings(max_epoch=0, epoch_size=1), 2)
    # 5 % of 40 rows are 2; the pass that follows goes over the 38 others
    assert passes == [40, 38]


def test_held_out_rows_by_hand() -> None:
    rows = np.arange(100, 140)
    [(train, dev)] = train_and_dev_rows([Fold(rows, None, (1e-5,))], np.random.RandomState(1111))
    permutation = np.random.RandomState(1111).permutation(40)
    assert dev.tolist() == (100 + permutation[:2]).tolist()
    assert train.tolist() == (100 + permutation[2:]).tolist()


@both
def test_too_few_rows_to_hold_any_out_are_refused(train: Train) -> None:
    with pytest.raises(ValueError, match="19 training rows are too few to hold out 5%"):
        train(*separable(19), [Fold(np.arange(19), None, (1e-5,))], ClassifierSettings(), 2)


@both
def test_the_first_adam_step_by_hand(train: Train) -> None:
    # one row (2, 0) of class 1: the data gradient of w1 is (p1 - 1)·(2, 0), of w0 the opposite, of the
    # biases without the 2; weight decay 0.01 adds 0.01·w. Adam's first step is lr·g / (|g| + 1e-8).
    X, y = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([1, 1])
    torch.manual_seed(1111)
    start = torch.nn.Linear(2, 2)
    weight, bias = start.weight.detach(), start.bias.detach()
    error = torch.softmax(start(X[:1]).detach(), dim=1)[0] - torch.tensor([0.0, 1.0])
    gradient = error[:, None] * X[:1] + 0.01 * weight
    expected = weight - 1e-3 * gradient / (gradient.abs() + 1e-8)

    fold = Fold(np.array([0]), np.array([1]), (0.01,))
    [[fit]] = train(X, y, [fold], ClassifierSettings(max_epoch=0, epoch_size=1), 2)
    assert np.allclose(fit.parameters[0], expected, atol=1e-7)
    bias_gradient = error + 0.01 * bias
    assert np.allclose(fit.parameters[1], bias - 1e-3 * bias_gradient / (bias_gradient.abs() + 1e-8), atol=1e-7)


@both
def test_the_weights_kept_are_the_best_ones_on_dev_and_not_the_last(train: Train) -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 3, generator=generator)
    y = torch.randint(0, 2, (60,), generator=generator)  # noise, so that dev accuracy goes up and down
    fold = Fold(np.arange(40), np.arange(40, 60), (1e-5,))
    [[fit]] = train(X, y, [fold], ClassifierSettings(epoch_size=1, max_epoch=30, tenacity=30), 2)
    assert (fit.predict(X[40:]) == y[40:].numpy()).mean() == fit.dev_accuracy


@both
@pytest.mark.parametrize("nhid", [0, 3])
def test_a_fit_leaves_the_global_random_numbers_alone(train: Train, nhid: int) -> None:
    state, torch_state = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    settings = ClassifierSettings(nhid=nhid, dropout=0.5, max_epoch=0)
    train(*separable(40), [halves(40)], settings, 2)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())


@both
def test_progress_counts_every_fit_once(train: Train) -> None:
    told: list[int] = []
    rows = np.arange(40)
    folds = [Fold(rows[:20], rows[20:], (1e-5, 1e-2)), Fold(rows[:21], rows[21:], (1e-5, 1e-2))]
    train(*separable(40), folds, ClassifierSettings(max_epoch=8), 2, told.append)
    assert sum(told) == 4


def arrays(*values: list[object]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(value, dtype=np.float32) for value in values)


def test_logistic_regression_predicts_the_class_of_the_larger_score_by_hand() -> None:
    fit = Fit(1.0, arrays([[1, 0], [0, 1]], [0, 0.5]), 1)
    # scores (1, 0.5), (0, 1.5), and (2, 2.5)
    assert fit.predict(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])).tolist() == [0, 1, 1]


def test_a_hidden_layer_predicts_through_its_sigmoid_by_hand() -> None:
    # the unit is 0, 0.5 or 1; the second score is 1.2 times the unit, against 0.7
    fit = Fit(1.0, arrays([[100]], [0], [[0], [1.2]], [0.7, 0]), 1)
    assert fit.predict(torch.tensor([[-1.0], [0.0], [1.0]])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optim": "adamw"}, "optim must be one of adam, rmsprop, sgd, .*, not 'adamw'"),
        ({"optim": "sgd"}, "optim 'sgd' needs a learning rate: sgd,lr=0.1"),
        ({"optim": "sgd,lr"}, "lr must be a number"),
        ({"optim": "sgd,rate=1"}, "sgd has no 'rate', only lr, momentum"),
        ({"optim": "adam,lr=-1"}, "Invalid learning rate: -1"),
        ({"batch_size": 0}, "batch_size and epoch_size must be at least 1"),
        ({"nhid": -1}, "the other counts at least 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "optim", ["sgd,lr=0.5", "adagrad,lr=0.1,lr_decay=0.05", "adadelta", "adamax", "asgd", "rprop", "adam,lr=0.01"]
)
def test_sentevals_other_optimizers_train_as_torch_does(optim: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = (rng.normal(size=(60, 4)) + y[:, None]).astype(np.float32)
    settings = ClassifierSettings(optim=optim, batch_size=60, epoch_size=1, max_epoch=0)
    fold = Fold(np.arange(40), np.arange(40, 60), (0.1,))
    [[fit]] = fit_sequentially(torch.from_numpy(X), torch.from_numpy(y), [fold], settings, 2)

    torch.manual_seed(settings.seed)
    model = torch.nn.Linear(4, 2)
    make, given = parse_optimizer(optim)
    optimizer = make(model.parameters(), **given)
    optimizer.param_groups[0]["weight_decay"] = 0.1  # as SentEval sets it
    order = torch.from_numpy(np.random.RandomState(settings.seed).permutation(40))
    torch.nn.functional.cross_entropy(
        model(torch.from_numpy(X[:40])[order]), torch.from_numpy(y[:40])[order]
    ).backward()
    optimizer.step()
    for ours, theirs in zip(fit.parameters, model.parameters(), strict=True):
        assert ours == pytest.approx(theirs.detach().numpy(), abs=1e-6)
