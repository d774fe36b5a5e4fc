"""Many classifiers of one shape as one model: gradients and optimizer steps for all at once.

Letters: F folds, R l2 strengths, C classes, H hidden units, D features, B rows of a step, N rows.
Features end in a column of ones (D + 1), so that the last column of a weight is its bias.
Weights are (F, R, …). A fold's R fits use the same rows, so these are multiplied once for all R.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Linear:
    """F·R logistic regressions.

    Two classes need only half the products: the prediction depends on the direction w1 - w0 alone,
    and the two data gradients differ only in sign. Stored as (w1, -w0), both weights have the same
    data gradient. Weight decay, Adam and RMSprop give the same steps after the change of sign.
    """

    def __init__(self, layers: Sequence[Tensor], num_folds: int, num_l2: int) -> None:
        [weight] = layers
        self.is_binary = len(weight) == 2
        if self.is_binary:
            weight = torch.stack([weight[1], -weight[0]])
        self.weights = [weight.repeat(num_folds, num_l2, 1, 1)]
        self._allocate()

    def _allocate(self) -> None:
        [weight] = self.weights
        self._first, self._second = weight[:, :, :1], weight[:, :, 1:]
        self.columns = torch.empty_like(self._first) if self.is_binary else weight
        self.gradients = [torch.empty_like(self.columns)]
        self.refresh()

    def refresh(self) -> None:
        """Update the derived tensors after the weights have changed."""
        if self.is_binary:
            torch.add(self._first, self._second, out=self.columns)

    def keep(self, folds: Tensor) -> None:
        """Keep only these folds."""
        self.weights = [weight[folds] for weight in self.weights]
        self._allocate()

    def targets(self, y: Tensor) -> Tensor:
        """Convert (N,) classes to (N, 1) probabilities; with more than two classes, to (N, C)."""
        if self.is_binary:
            return y.float().unsqueeze(1)
        return nn.functional.one_hot(y, self.columns.shape[2]).float()

    def views(self, part: slice) -> tuple[Tensor, ...]:
        """Return the tensors that `backward` needs for a slice of folds."""
        return self.columns[part].flatten(1, 2), self.gradients[0][part].flatten(1, 2)

    def backward(self, views: tuple[Tensor, ...], X: Tensor, targets: Tensor, kept: Tensor | None) -> None:  # noqa: ARG002
        """Write the gradient of the mean cross-entropy into `gradients`.

        Args:
            views: from `views`, for the folds of X.
            X: (F, B, D + 1).
            targets: (F, 1 or C, B).
            kept: unused; there is no dropout here.
        """
        columns, gradient = views
        error = torch.bmm(columns, X.transpose(1, 2))
        if self.is_binary:
            error.sigmoid_().sub_(targets)
        else:
            probabilities = error.unflatten(1, (-1, targets.shape[1])).softmax(dim=2)
            error = probabilities.sub_(targets.unsqueeze(1)).flatten(1, 2)
        torch.baddbmm(gradient, error, X, beta=0, alpha=1 / X.shape[1], out=gradient)

    def predict(self, fold: int, X: Tensor) -> Tensor:
        """Predict (R, N) classes of (N, D + 1) features with the R fits of a fold."""
        scores = self.columns[fold] @ X.T
        return (scores[:, 0] > 0).long() if self.is_binary else scores.argmax(dim=1)

    def parameters(self, weights: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
        """Convert one fit's weights, as stored here, to weight (C, D) and bias (C,)."""
        [weight] = weights
        if self.is_binary:
            weight = torch.stack([-weight[1], weight[0]])
        return weight[:, :-1].numpy().copy(), weight[:, -1].numpy().copy()


class MLP:
    """F·R classifiers with a hidden layer of H sigmoid units; dropout acts before the sigmoid, as in SentEval."""

    def __init__(self, layers: Sequence[Tensor], num_folds: int, num_l2: int) -> None:
        self.weights = [layer.repeat(num_folds, num_l2, 1, 1) for layer in layers]
        self.gradients = [torch.empty_like(weight) for weight in self.weights]

    def refresh(self) -> None:
        """Do nothing: no tensor is derived from the weights."""

    def keep(self, folds: Tensor) -> None:
        """Keep only these folds."""
        self.weights = [weight[folds] for weight in self.weights]
        self.gradients = [torch.empty_like(weight) for weight in self.weights]

    def targets(self, y: Tensor) -> Tensor:
        """Convert (N,) classes to (N, C) probabilities."""
        return nn.functional.one_hot(y, self.weights[1].shape[2]).float()

    def views(self, part: slice) -> tuple[Tensor, ...]:
        """Return the tensors that `backward` needs for a slice of folds."""
        hidden, output = (weight[part] for weight in self.weights)
        hidden_gradient, output_gradient = (gradient[part] for gradient in self.gradients)
        return hidden.flatten(1, 2), output.flatten(0, 1), hidden_gradient.flatten(1, 2), output_gradient.flatten(0, 1)

    def backward(self, views: tuple[Tensor, ...], X: Tensor, targets: Tensor, kept: Tensor | None) -> None:
        """Write the gradient of the mean cross-entropy into `gradients`.

        Args:
            views: from `views`, for the folds of X.
            X: (F, B, D + 1).
            targets: (F, C, B).
            kept: (H, B) factors, 0 for a dropped unit. All fits share them, because they draw the same numbers.
        """
        hidden, output, hidden_gradient, output_gradient = views
        num_folds, num_rows = X.shape[:2]
        before = torch.bmm(hidden, X.transpose(1, 2)).view(len(output), -1, num_rows)  # (F·R, H, B)
        active = (before if kept is None else before * kept).sigmoid_()
        scores = torch.baddbmm(output[:, :, -1:], output[:, :, :-1], active)
        probabilities = scores.unflatten(0, (num_folds, -1)).softmax(dim=2)
        error = probabilities.sub_(targets.unsqueeze(1)).flatten(0, 1).div_(num_rows)
        output_gradient[:, :, :-1] = torch.bmm(error, active.transpose(1, 2))
        output_gradient[:, :, -1] = error.sum(dim=2)
        error = torch.bmm(output[:, :, :-1].transpose(1, 2), error).mul_(active).mul_(1 - active)
        if kept is not None:
            error.mul_(kept)
        torch.bmm(error.view(num_folds, -1, num_rows), X, out=hidden_gradient)

    def predict(self, fold: int, X: Tensor) -> Tensor:
        """Predict (R, N) classes of (N, D + 1) features with the R fits of a fold."""
        hidden, output = (weight[fold] for weight in self.weights)
        active = (hidden.flatten(0, 1) @ X.T).sigmoid_().view(*hidden.shape[:2], -1)
        return torch.baddbmm(output[:, :, -1:], output[:, :, :-1], active).argmax(dim=1)

    def parameters(self, weights: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
        """Convert one fit's weights to those of `classifier.Fit`: (H, D), (H,), (C, H), (C,)."""
        return tuple(part.numpy().copy() for weight in weights for part in (weight[:, :-1], weight[:, -1]))


class Adam:
    """Adam with torch's defaults and a weight decay for each fit, added to the gradient.

    Args:
        weights: (F, R, …) each.
        l2: (F, R).
    """

    learning_rate, beta1, beta2, epsilon = 1e-3, 0.9, 0.999, 1e-8

    def __init__(self, weights: Sequence[Tensor], l2: Tensor) -> None:
        self._l2 = l2[:, :, None, None]
        self._steps = [torch.zeros(()) for _ in weights]
        self._means = [torch.zeros_like(weight) for weight in weights]
        self._squares = [torch.zeros_like(weight) for weight in weights]
        self._decayed = [torch.empty_like(weight) for weight in weights]

    def step(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Update the weights in place."""
        for weight, gradient, decayed, step in zip(weights, gradients, self._decayed, self._steps, strict=True):
            torch.addcmul(gradient, self._l2, weight, out=decayed)
            step.add_(1)
        # torch.optim.Adam(fused=True) calls this too: one pass over memory, here without its Python bookkeeping
        torch._fused_adam_(
            weights,
            self._decayed,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def keep(self, folds: Tensor) -> None:
        """Keep only these folds."""
        self._l2 = self._l2[folds]
        self._means = [mean[folds] for mean in self._means]
        self._squares = [square[folds] for square in self._squares]
        self._decayed = [torch.empty_like(mean) for mean in self._means]


class RMSprop:
    """RMSprop with torch's defaults and a weight decay for each fit, added to the gradient.

    Args:
        weights: (F, R, …) each.
        l2: (F, R).
    """

    learning_rate, alpha, epsilon = 1e-2, 0.99, 1e-8

    def __init__(self, weights: Sequence[Tensor], l2: Tensor) -> None:
        self._l2 = l2[:, :, None, None]
        self._squares = [torch.zeros_like(weight) for weight in weights]

    def step(self, weights: list[Tensor], gradients: list[Tensor]) -> None:
        """Update the weights in place."""
        for weight, gradient, square in zip(weights, gradients, self._squares, strict=True):
            decayed = torch.addcmul(gradient, self._l2, weight)
            square.mul_(self.alpha).addcmul_(decayed, decayed, value=1 - self.alpha)
            weight.addcdiv_(decayed, square.sqrt().add_(self.epsilon), value=-self.learning_rate)

    def keep(self, folds: Tensor) -> None:
        """Keep only these folds."""
        self._l2 = self._l2[folds]
        self._squares = [square[folds] for square in self._squares]
