"""Which other programs read a student's folder as sentence-transformers does, and which do not.

Facts about each program are in `docs/serving.md`; `tests/contracts/` holds their reading rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distilcse_cli import console
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import LAST_TOKEN, POOLINGS, WEIGHTED_MEAN
from distilcse_cli.models.static import is_static

TEI, LLAMA_CPP, OLLAMA, VLLM, IN_BROWSERS, OLD_TRANSFORMERS = READERS = (
    *("text-embeddings-inference", "llama.cpp", "Ollama", "vLLM", "transformers.js"),
    "transformers 4",
)
SERVES, OTHERWISE, REFUSES = "yes", "other vectors", "no"
"""What a program makes of a folder: the student's vectors; others, without an error; or nothing."""

_BERTS = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "ModernBertModel"})
_KNOWN = {
    TEI: _BERTS | {"CamembertModel", "DistilBertModel", "MPNetModel"},
    LLAMA_CPP: _BERTS | {"CamembertModel", "DistilBertModel"},
    OLLAMA: frozenset({"BertModel"}),
    VLLM: _BERTS,
}
"""Classes of transformers that each program has; transformers.js runs any graph."""
_TEI_ACTIVATIONS = ("Tanh", "Identity")


@dataclass(frozen=True)
class Obstacle:
    """One property of a student that some programs do not follow."""

    what: str
    """The property, for messages."""
    verdicts: dict[str, str]
    """What each program that does not follow it makes of the folder: `OTHERWISE` or `REFUSES`."""
    remedy: str | None = None
    """What else one can do than serve it with sentence-transformers. None: the card says it, and no warning."""


@dataclass(frozen=True)
class Reading:
    """What one program makes of a student's folder, and why if that is not the student."""

    verdict: str = SERVES
    why: str = ""


def readings(encoder: SentenceEncoder) -> dict[str, Reading]:
    """What each of `READERS` makes of a student's folder."""
    found = dict.fromkeys(READERS, Reading())
    for verdict in (OTHERWISE, REFUSES):  # who refuses a folder computes nothing
        for obstacle in reversed(list(_obstacles(encoder))):
            of = [reader for reader, says in obstacle.verdicts.items() if says == verdict]
            found |= dict.fromkeys(of, Reading(verdict, obstacle.what))
    return found


def warn_of_readers(encoder: SentenceEncoder) -> None:
    """Warn of programs that would compute other vectors of a student, or not load it; a line for each reason."""
    obstacles = list(_obstacles(encoder))
    unknown = {
        reader for one in obstacles if one.remedy is None for reader, says in one.verdicts.items() if says == REFUSES
    }
    for one in obstacles:
        if one.remedy is None:
            continue
        said = []
        for verdict, does in ((OTHERWISE, "would compute other vectors"), (REFUSES, "cannot load it")):
            names = [reader for reader, says in one.verdicts.items() if says == verdict and reader not in unknown]
            said += [f"{_listed(names)} {does}"] if names else []
        console.warn(f"{one.what}: {'; '.join(said)}: serve it with sentence-transformers{one.remedy}")


def attention_period(config: Any) -> int | None:
    """Every how many layers, from the first one on, a ModernBERT attends to all tokens; None if not regularly."""
    types = [kind == "full_attention" for kind in config.layer_types]
    for period in range(1, len(types) + 1):
        if types == [index % period == 0 for index in range(len(types))]:
            return period
    return None


def _obstacles(encoder: SentenceEncoder) -> Iterator[Obstacle]:
    if is_static(encoder.backbone):
        yield Obstacle("a static student has no transformer", dict.fromkeys(READERS, REFUSES))
        return
    architecture, pooling = type(encoder.backbone).__name__, POOLINGS[encoder.pooling]
    unknown = [reader for reader, known in _KNOWN.items() if architecture not in known]
    if unknown:
        yield Obstacle(f"it has no {architecture}", dict.fromkeys(unknown, REFUSES))
    verdicts: dict[str, str] = {}
    if pooling.mixes is not None or pooling.reads is WEIGHTED_MEAN:
        # without a 1_Pooling, text-embeddings-inference takes the first token of whatever is called a bert
        is_bert = pooling.mixes is not None and "bert" in encoder.backbone.config.model_type
        verdicts = {TEI: OTHERWISE if is_bert else REFUSES, LLAMA_CPP: REFUSES}
        verdicts |= dict.fromkeys((OLLAMA, VLLM, IN_BROWSERS), OTHERWISE)
    elif pooling.reads is LAST_TOKEN:
        verdicts = {TEI: REFUSES, OLLAMA: OTHERWISE}
    if verdicts:
        yield Obstacle(f"pooling {pooling.name}", verdicts, ", or train with --pooler avg")
    if encoder.dense is not None:
        what = f"it drops the dense layer{'s' * (len(encoder.dense) > 1)} after the pooling"
        yield Obstacle(what, dict.fromkeys((LLAMA_CPP, OLLAMA, IN_BROWSERS), OTHERWISE))
        odd = [layer.activation_name for layer in encoder.dense if layer.activation_name not in _TEI_ACTIVATIONS]
        if odd:
            yield Obstacle(f"a dense layer with {odd[0]}", {TEI: REFUSES}, "")
    config = encoder.backbone.config
    if config.model_type == "modernbert" and attention_period(config) is None:
        yield Obstacle(
            "layers that attend to all tokens come at irregular intervals",
            {TEI: REFUSES, LLAMA_CPP: OTHERWISE, OLD_TRANSFORMERS: OTHERWISE},
            " and transformers 5, or keep every third layer or all of the first ones",
        )


def _listed(names: list[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
