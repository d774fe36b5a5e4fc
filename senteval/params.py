"""The `params` of SentEval's own interface, and the check of their values."""

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from senteval.errors import UsageError

if TYPE_CHECKING:
    from senteval.classifier import ClassifierSettings


class Params(dict[str, Any]):
    """A dict whose keys are attributes too. A missing attribute is None. `batcher` and `prepare` may add keys."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


def check_params(params: Params) -> None:
    """Check the settings that every task uses.

    Raises:
        UsageError: one is not what it should be.
    """
    for name, least in (("batch_size", 1), ("kfold", 2), ("seed", 0)):
        value = params[name]
        if not isinstance(value, Integral) or int(value) < least:
            raise UsageError(f"params[{name!r}] must be a whole number of at least {least}, not {value!r}")
    if params.similarity is not None and not callable(params.similarity):
        raise UsageError(
            "params['similarity'] must be a function of two embeddings", hint="leave it out for the cosine"
        )


def classifier_settings(classifier: Mapping[str, Any], *, seed: int, usepytorch: bool) -> "ClassifierSettings":
    """The settings of `params['classifier']`. Keys that mean nothing here are ignored: see `ignored_keys`.

    Raises:
        UsageError: a value is not what it should be, or scikit-learn's classifier is asked for.
    """
    from senteval.classifier import ClassifierSettings

    if not usepytorch:
        raise UsageError(
            "usepytorch=False (scikit-learn's classifier) is not supported",
            hint="leave usepytorch out: the published numbers use the PyTorch classifier",
        )
    ignored = ignored_keys(classifier)
    try:
        return ClassifierSettings(seed=seed, **{key: classifier[key] for key in classifier if key not in ignored})
    except (TypeError, ValueError) as error:
        raise UsageError(f"params['classifier']: {error}") from error


def ignored_keys(classifier: Mapping[str, Any]) -> list[str]:
    """Keys of `params['classifier']` that have no effect."""
    from senteval.classifier import ClassifierSettings

    return sorted(set(classifier) - set(ClassifierSettings.__dataclass_fields__) | set(classifier) & {"seed"})
