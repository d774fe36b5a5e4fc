"""SentEval's trained relatedness model, used by the `-finetune` tasks.

A softmax layer over `|u - v|` and `u * v` learns a probability for each score from 1 to 5, such
that the expected score is the gold score (Tai et al. 2015). It predicts the expected score. The
usual STS tables train nothing and are something else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from senteval.correlation import Pairs, correlate
from senteval.embedding import Embed
from senteval.loading import TaskData
from senteval.transfer import Progress, features, no_progress

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_SCORES = 5
BATCH_SIZE = 64
EPOCHS_PER_ROUND = 50
MAX_EPOCHS = 1000
TENACITY = 3


@dataclass(frozen=True)
class Fit:
    """Results of a trained relatedness model."""

    dev_spearman: float
    dev_pearson: float
    """Of the round with the best Spearman."""
    predictions: np.ndarray
    """(N,) expected scores of the test pairs, between 1 and 5."""


def score_regressor(data: TaskData, embed: Embed, *, seed: int, progress: Progress = no_progress) -> dict[str, Any]:
    """SentEval's result dict: `devspearman`, `devpearson`, `pearson`, `spearman`, `mse`, `yhat`, `ndev`, `ntest`.

    An undefined correlation is None, with a `reason`.
    """
    X = {name: features(embed(split)) for name, split in data.splits.items()}
    gold = {name: split.labels for name, split in data.splits.items()}
    fit = fit_relatedness(X["train"], gold["train"], X["dev"], gold["dev"], X["test"], seed=seed, progress=progress)
    score = correlate(Pairs(fit.predictions, gold["test"]))
    result = {
        "devspearman": fit.dev_spearman,
        "devpearson": fit.dev_pearson,
        "pearson": score.pearson and score.pearson.statistic,
        "spearman": score.spearman and score.spearman.statistic,
        "mse": float(np.mean((fit.predictions - gold["test"]) ** 2)),
        "yhat": fit.predictions,
        "ndev": len(gold["dev"]),
        "ntest": len(gold["test"]),
    }
    return result | ({"reason": score.reason} if score.reason else {})


def spread_scores(gold: np.ndarray) -> np.ndarray:
    """(N, 5) target probabilities of N gold scores: 3.6 becomes 0.4 on 3 and 0.6 on 4.

    Below 1 the row sums to less than 1, because there is no score 0. SentEval has this flaw too,
    and it affects STS-B, whose scores go from 0 to 5.
    """
    return np.maximum(0, 1 - np.abs(gold[:, None] - np.arange(1, NUM_SCORES + 1))).astype(np.float32)


def fit_relatedness(
    train_X: np.ndarray,
    train_gold: np.ndarray,
    dev_X: np.ndarray,
    dev_gold: np.ndarray,
    test_X: np.ndarray,
    *,
    seed: int,
    progress: Progress = no_progress,
) -> Fit:
    """Train with Adam on the mean squared error of the probabilities, until dev Spearman stops rising.

    A round is fifty epochs. As in SentEval, the fourth round without a better dev score ends the
    training, and the counter is never reset. The weights of the best round are kept.

    Args:
        train_X: (N, F) features; the same form for dev_X and test_X.
        train_gold: (N,) gold scores; the same form for dev_gold.
        seed: decides the starting weights and the order of batches.
        progress: called with epochs done and the largest possible number.
    """
    import torch

    X, dev, test = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (train_X, dev_X, test_X))
    targets = torch.from_numpy(spread_scores(train_gold))
    order = np.random.RandomState(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torch.nn.Linear(X.shape[1], NUM_SCORES)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    best, dev_pearson, best_state, misses, epochs = -1.0, -1.0, None, 0, 0
    while epochs <= MAX_EPOCHS:
        for _ in range(EPOCHS_PER_ROUND):
            _train_epoch(model, optimizer, X, targets, torch.from_numpy(order.permutation(len(X))))
        epochs += EPOCHS_PER_ROUND
        progress(min(epochs, MAX_EPOCHS), MAX_EPOCHS)
        dev_scores = correlate(Pairs(_expected_scores(model, dev), dev_gold))
        score = dev_scores.spearman.statistic if dev_scores.spearman else 0.0
        if score > best:
            best, best_state = score, {name: tensor.clone() for name, tensor in model.state_dict().items()}
            dev_pearson = dev_scores.pearson.statistic if dev_scores.pearson else 0.0
            continue
        misses += 1
        if misses > TENACITY:
            break
    if best_state is not None:
        model.load_state_dict(best_state)
    return Fit(best, dev_pearson, _expected_scores(model, test))


def _train_epoch(model: "nn.Linear", optimizer: Any, X: "Tensor", targets: "Tensor", order: "Tensor") -> None:
    from torch.nn.functional import mse_loss, softmax

    for rows in order.split(BATCH_SIZE):
        loss = mse_loss(softmax(model(X[rows]), dim=-1), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _expected_scores(model: "nn.Linear", X: "Tensor") -> np.ndarray:
    import torch

    with torch.no_grad():
        probabilities = torch.softmax(model(X), dim=-1).numpy().astype(np.float64)
    return probabilities @ np.arange(1, NUM_SCORES + 1)
