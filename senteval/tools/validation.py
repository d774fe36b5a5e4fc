"""SentEval's own classes for its three validation protocols, over `senteval.validation`.

`config` has SentEval's keys: `nclasses`, `seed`, `classifier`, `kfold` (5) and `usepytorch`. Classes are 0 to C - 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from senteval import validation
from senteval.errors import UsageError
from senteval.params import classifier_settings

__all__ = ["InnerKFoldClassifier", "KFoldClassifier", "SplitClassifier", "get_classif_name"]


def get_classif_name(classifier_config: Mapping[str, Any], usepytorch: bool) -> str:
    """The name of a classifier in SentEval's log."""
    if not usepytorch:
        return "sklearn-LogReg"
    optim, batch_size = classifier_config.get("optim", "adam"), classifier_config.get("batch_size", 64)
    return f"pytorch-MLP-nhid{classifier_config['nhid']}-{optim}-bs{batch_size}"


class _Classifier:
    """What the three have in common: the settings, checked before anything is trained."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        usepytorch = config.get("usepytorch", True)
        if config.get("noreg"):
            raise UsageError("noreg is not supported", hint="leave it out: the l2 strength is picked on dev")
        self.nclasses, self.seed, self.k = config["nclasses"], config["seed"], config.get("kfold", 5)
        self._settings = classifier_settings(config["classifier"], seed=self.seed, usepytorch=usepytorch)
        self.modelname = get_classif_name(config["classifier"], usepytorch)

    @property
    def _common(self) -> dict[str, Any]:
        return {"num_classes": self.nclasses, "settings": self._settings}


class InnerKFoldClassifier(_Classifier):
    """Nested k-fold on (N, D) features and (N,) classes."""

    def __init__(self, X: np.ndarray, y: np.ndarray, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.X, self.y = X, y
        self.devresults: list[float] = []
        self.testresults: list[float] = []

    def run(self) -> tuple[float, float]:
        """Return the mean dev and test accuracy in percent; those of the folds are in `devresults`, `testresults`."""
        score = validation.inner_kfold(self.X, self.y, num_folds=self.k, **self._common)
        self.devresults, self.testresults = list(score.fold_dev), list(score.fold_test)
        return score.devacc, score.acc


class KFoldClassifier(_Classifier):
    """K-fold on `train`, then one test; both are dicts of `X` and `y`."""

    def __init__(self, train: Mapping[str, Any], test: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.train, self.test = train, test

    def run(self) -> tuple[float, float, np.ndarray]:
        """Return dev and test accuracy in percent, and the (N, 1) classes predicted for the test rows."""
        rows = (self.train["X"], self.train["y"], self.test["X"], self.test["y"])
        score = validation.kfold_then_test(*rows, num_folds=self.k, **self._common)
        return score.devacc, score.acc, np.asarray(score.predictions, dtype=np.float64)[:, None]


class SplitClassifier(_Classifier):
    """Train, dev and test: `X` and `y` are dicts of `train`, `valid` and `test`."""

    def __init__(self, X: Mapping[str, Any], y: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.X, self.y = X, y

    def run(self) -> tuple[float, float]:
        """Return dev and test accuracy in percent."""
        score = validation.split(*((self.X[name], self.y[name]) for name in ("train", "valid", "test")), **self._common)
        return score.devacc, score.acc
