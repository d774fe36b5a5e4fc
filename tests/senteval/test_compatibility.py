"""What scripts import from SentEval's own modules."""

import numpy as np
import pytest

import senteval
from senteval import validation
from senteval.errors import UsageError
from senteval.tools.validation import InnerKFoldClassifier, KFoldClassifier, SplitClassifier
from senteval.utils import cosine, create_dictionary, dotdict, get_optimizer

CONFIG = {"nclasses": 2, "seed": 1111, "usepytorch": True, "kfold": 2, "nhid": 0}
CLASSIFIER = {"nhid": 0, "optim": "rmsprop", "batch_size": 16, "tenacity": 2, "epoch_size": 2}


def features(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(num_rows) % 2
    return np.random.default_rng(seed).normal(size=(num_rows, 6)) + 0.5 * y[:, None], y


def test_utils_are_sentevals() -> None:
    # 3 · 4 + 4 · 3 over 5 · 5
    assert cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(24 / 25)
    assert cosine(np.ones(2, np.float32), np.ones(2, np.float32)).dtype == np.float32
    params = dotdict({"kfold": 5})
    params.word2id = {}
    assert (params.kfold, params["word2id"], params.nothing) == (5, {}, None)
    words, numbers = create_dictionary([["b", "a"], ["a"]])
    assert words == ["<s>", "</s>", "<p>", "a", "b"]
    assert numbers["b"] == 4
    optimizer, settings = get_optimizer("sgd,lr=0.1")
    assert (optimizer.__name__, settings) == ("SGD", {"lr": 0.1})


def test_modules_and_names_are_where_scripts_look_for_them() -> None:
    assert senteval.utils.cosine is cosine
    assert senteval.tools.validation.SplitClassifier is SplitClassifier
    assert senteval.SE is senteval.engine.SE
    assert {"MR", "STS12", "SICKRelatedness"} <= set(senteval.SE.list_tasks)
    with pytest.raises(AttributeError, match="no attribute 'probing'"):
        senteval.probing  # noqa: B018


def test_the_three_classifiers_give_the_protocols_scores() -> None:
    config = CONFIG | {"classifier": CLASSIFIER}
    settings = validation.ClassifierSettings(**CLASSIFIER)
    (X, y), (test_X, test_y) = features(80), features(40, seed=1)
    inner = InnerKFoldClassifier(X, y, config)
    score = validation.inner_kfold(X, y, num_folds=2, settings=settings)
    assert inner.run() == (score.devacc, score.acc)
    assert inner.testresults == list(score.fold_test)
    assert inner.modelname == "pytorch-MLP-nhid0-rmsprop-bs16"

    devacc, acc, predicted = KFoldClassifier({"X": X, "y": y}, {"X": test_X, "y": test_y}, config).run()
    again = validation.kfold_then_test(X, y, test_X, test_y, num_classes=2, num_folds=2, settings=settings)
    assert (devacc, acc) == (again.devacc, again.acc)
    assert predicted.shape == (40, 1)
    assert round(100 * float(np.mean(predicted[:, 0] == test_y)), 2) == acc

    parts = {"train": X, "valid": X[:20], "test": test_X}, {"train": y, "valid": y[:20], "test": test_y}
    split = validation.split((X, y), (X[:20], y[:20]), (test_X, test_y), num_classes=2, settings=settings)
    assert SplitClassifier(*parts, config).run() == (split.devacc, split.acc)


@pytest.mark.parametrize(
    "wrong", [{"usepytorch": False}, {"noreg": True}, {"classifier": {"nhid": 0, "optim": "lion"}}]
)
def test_settings_that_are_not_offered_are_refused_at_once(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        InnerKFoldClassifier(*features(20), CONFIG | {"classifier": CLASSIFIER} | wrong)
