"""Many fits at once end where each would end alone."""

import multiprocessing

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from senteval import batched
from senteval.batched import fit_batched
from senteval.classifier import ClassifierSettings, Fold, fit_sequentially
from senteval.lockstep import MLP, Adam, Linear, RMSprop


def noisy(num_rows: int, num_features: int, num_classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    X = torch.randn(num_rows, num_features, generator=generator)
    noise = torch.randn(num_rows, num_classes, generator=generator)
    return X, (X[:, :num_classes] + noise).argmax(dim=1)


def uneven_folds(num_rows: int) -> list[Fold]:
    """Folds of three sizes, two of them held out, with one to three l2 strengths."""
    rows = np.random.RandomState(3).permutation(num_rows)
    return [
        Fold(rows[20:], rows[:20], (1e-5, 1e-2)),
        Fold(rows[:-20], rows[-20:], (1e-5, 1e-2)),
        Fold(rows[21:], rows[:21], (1e-5, 1e-3, 1e-2)),
        Fold(rows[20:], None, (1e-4,)),
        Fold(rows[:-20], None, (1e-2,)),
    ]


@pytest.mark.parametrize("optim", ["adam", "rmsprop"])
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize(("nhid", "dropout"), [(0, 0.0), (4, 0.0), (4, 0.3)])
def test_batched_fits_are_the_sequential_ones(optim: str, num_classes: int, nhid: int, dropout: float) -> None:
    X, y = noisy(150, 6, num_classes)
    settings = ClassifierSettings(
        optim=optim, nhid=nhid, dropout=dropout, batch_size=16, epoch_size=2, tenacity=2, max_epoch=30
    )
    together = fit_batched(X, y, uneven_folds(150), settings, num_classes)
    alone = fit_sequentially(X, y, uneven_folds(150), settings, num_classes)
    assert [len(fits) for fits in together] == [2, 2, 3, 1, 1]
    for fits, expected_fits in zip(together, alone, strict=True):
        for fit, expected in zip(fits, expected_fits, strict=True):
            assert (fit.dev_accuracy, fit.num_steps) == (expected.dev_accuracy, expected.num_steps)
            assert [part.shape for part in fit.parameters] == [part.shape for part in expected.parameters]
            for part, expected_part in zip(fit.parameters, expected.parameters, strict=True):
                assert np.allclose(part, expected_part, atol=1e-4)


def test_processes_and_small_blocks_change_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = noisy(120, 6, 2)
    rows = np.arange(120)
    folds = [Fold(np.delete(rows, held), held, (1e-5, 1e-2)) for held in np.split(rows, 12)]
    settings = ClassifierSettings(max_epoch=20, batch_size=32)
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fit_batched(X, y, folds, settings, 2)
        torch.set_num_threads(3)
        monkeypatch.setattr(batched, "MIN_FOLDS", 2)
        monkeypatch.setattr(batched, "CACHE_BYTES", 1)  # one fold a block
        three = fit_batched(X, y, folds, settings, 2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(num_threads)
    for fits, expected_fits in zip(three, one, strict=True):
        for fit, expected in zip(fits, expected_fits, strict=True):
            assert fit.dev_accuracy == expected.dev_accuracy
            assert np.allclose(fit.parameters[0], expected.parameters[0], atol=1e-5)


def test_what_progress_raises_ends_the_work() -> None:
    def give_up(_: int) -> None:
        raise KeyboardInterrupt

    X, y = noisy(60, 4, 2)
    rows = np.arange(60)
    folds = [Fold(rows[:40], rows[40:], (1e-5,)), Fold(rows[:41], rows[41:], (1e-5,))]  # two batches
    with pytest.raises(KeyboardInterrupt):
        fit_batched(X, y, folds, ClassifierSettings(max_epoch=4), 2, give_up)
    assert not multiprocessing.active_children()


def with_ones(X: Tensor) -> Tensor:
    return torch.cat([X, torch.ones(*X.shape[:-1], 1)], dim=-1)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_linear_gradients_are_autograds(num_classes: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, num_classes)
    X, y = torch.randn(2, 5, 3), torch.randint(0, num_classes, (2, 5))  # two folds of five rows
    model = Linear([torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()], num_folds=2, num_l2=3)
    targets = torch.stack([model.targets(fold).T for fold in y])
    model.backward(model.views(slice(0, 2)), with_ones(X), targets, None)
    for fold in range(2):
        nn.functional.cross_entropy(layer(X[fold]), y[fold]).backward()
        expected = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1)  # type: ignore[list-item, index]
        layer.zero_grad()
        got = model.gradients[0][fold].expand(3, num_classes, 4)
        if num_classes == 2:  # kept for (w1, -w0), where both have the gradient of w1
            got = got * torch.tensor([[-1.0], [1.0]])
        assert torch.allclose(got, expected.expand(3, num_classes, 4), atol=1e-6)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_mlp_gradients_are_autograds(dropout: float) -> None:
    torch.manual_seed(0)
    hidden, output = nn.Linear(3, 4), nn.Linear(4, 2)
    X, y = torch.randn(2, 5, 3), torch.randint(0, 2, (2, 5))
    kept = torch.tensor([0.0, 2.0, 2.0, 0.0]).expand(5, 4) if dropout else None
    layers = [torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach() for layer in (hidden, output)]
    model = MLP(layers, num_folds=2, num_l2=3)
    targets = torch.stack([model.targets(fold).T for fold in y])
    model.backward(model.views(slice(0, 2)), with_ones(X), targets, None if kept is None else kept.T)
    for fold in range(2):
        before = hidden(X[fold])
        scores = output((before if kept is None else before * kept).sigmoid())
        nn.functional.cross_entropy(scores, y[fold]).backward()
        for layer, gradient in zip((hidden, output), model.gradients, strict=True):
            expected = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1)  # type: ignore[list-item, index]
            assert torch.allclose(gradient[fold], expected.expand(3, *expected.shape), atol=1e-6)
            layer.zero_grad()


@pytest.mark.parametrize(("ours", "theirs"), [(Adam, torch.optim.Adam), (RMSprop, torch.optim.RMSprop)])
def test_optimizers_are_torchs_with_a_weight_decay_for_each_fit(
    ours: type[Adam] | type[RMSprop], theirs: type[torch.optim.Optimizer]
) -> None:
    generator = torch.Generator().manual_seed(0)
    l2 = torch.tensor([[1e-5, 0.5], [0.1, 1e-2], [1e-3, 0.0]])  # three folds, two strengths
    start = torch.randn(3, 2, 4, 5, generator=generator)
    gradients = torch.randn(6, 3, 2, 4, 5, generator=generator)
    weights, optimizer = [start.clone()], ours([start], l2)
    for gradient in gradients[:3]:
        optimizer.step(weights, [gradient])
    kept = torch.tensor([0, 2])  # the middle fold has stopped
    weights = [weights[0][kept]]
    optimizer.keep(kept)
    for gradient in gradients[3:]:
        optimizer.step(weights, [gradient[kept]])

    for place, fold in enumerate(kept.tolist()):
        for column in range(2):
            weight = start[fold, column].clone().requires_grad_()
            alone = theirs([weight], weight_decay=l2[fold, column].item())  # type: ignore[call-arg]
            for gradient in gradients:
                weight.grad = gradient[fold, column]
                alone.step()
            assert torch.allclose(weights[0][place, column], weight.detach(), atol=1e-6)
