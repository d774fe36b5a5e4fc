"""The model card of every folder that we write, README.md: what the hub reads, facts, code that runs, who serves it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distilcse_cli import __version__, catalogue
from distilcse_cli.catalogue.install import RECORD as SOURCE
from distilcse_cli.catalogue.licenses import LicenseStatement, card_statement
from distilcse_cli.config import HUB_ID
from distilcse_cli.errors import DataError
from distilcse_cli.files import read_json
from distilcse_cli.models import snippets
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.readers import SERVES, TEI, readings
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.static import is_static
from distilcse_cli.paths import plain_name

DISTILLED = "knowledge-distillation"
_DATA_ID = re.compile(rf"{HUB_ID.pattern}|[A-Za-z0-9][\w.-]*", re.ASCII)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a model's own files say of where it is from and how it may be used; nothing is concluded."""

    name: str
    """As the user named it."""
    hub_ids: list[str] = field(default_factory=list)
    """Its id on the hub. Of a local folder: those of the models that its card names as its base."""
    license: dict[str, Any] = field(default_factory=dict)
    """`license`, and `license_name` and `license_link` if there are any, as its card has them."""
    licenses: list[str] = field(default_factory=list)
    """Every statement about a license in its folder, with the place."""
    languages: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    is_distilled: bool = False


def origin(model: ModelRef) -> Origin:
    """Read the card and the record of a model that is there.

    Raises:
        DistilCSEError: as `ModelRef.locate`.
    """
    path = model.locate()
    folder = path if path.is_dir() else path.parent
    matter = front_matter(folder / "README.md")
    own = catalogue.hub_id(model.ref)
    named = _texts(matter.get("base_model"))
    return Origin(
        name=model.ref,
        hub_ids=[own] if own else [one for one in named if _is_id(one, HUB_ID)],
        license={key: matter[key] for key in ("license", "license_name", "license_link") if _texts(matter.get(key))},
        licenses=_statements(folder),
        languages=_texts(matter.get("language")),
        datasets=[one for one in _texts(matter.get("datasets")) if _is_id(one, _DATA_ID)],
        is_distilled=DISTILLED in _texts(matter.get("tags")),
    )


def _is_id(name: str, form: re.Pattern[str]) -> bool:
    """Whether a name has the form of an id of the hub, and is no path here."""
    return form.fullmatch(name) is not None and not ("/" in name and Path(name).exists())


def origins(student: ModelRef, teacher: ModelRef | None) -> dict[str, Any]:
    """Of both models of a training, for its record and its card; None of a teacher that there is not."""
    return {name: one and asdict(origin(one)) for name, one in (("student", student), ("teacher", teacher))}


def hub_data(inputs: Iterable[str]) -> list[str]:
    """The hub's ids of data sets, given by id, catalogue name or path; of others there is none."""
    return [one for one in map(catalogue.hub_id, inputs) if one]


def front_matter(readme: Path) -> dict[str, Any]:
    """The fields at the head of a card; none if it is missing or malformed, which other programs' cards may be."""
    from huggingface_hub.repocard import metadata_load

    try:
        return metadata_load(readme) or {}
    except Exception:  # whatever is in the file: nothing depends on it
        return {}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says beyond what the encoder knows itself."""

    title: str
    made: str
    """How it was made: the rest of the sentence after the program's name and version."""
    base: Origin | None = None
    """The model whose weights it has or started from; None if it is unknown."""
    teacher: Origin | None = None
    rows: Sequence[tuple[str, str]] = ()
    """Names and values for the table of facts."""
    datasets: Sequence[str] = ()
    """The hub's ids of what it was trained on."""
    sts_b_dev: float | None = None
    """Spearman x 100 on STS-B's development set."""
    is_distilled: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def model_card(encoder: SentenceEncoder, card: Card, folder: Path) -> str:
    """Markdown for README.md of an encoder that is saved in `folder`."""
    served, name = readings(encoder), _name(folder)
    is_served = served[TEI].verdict == SERVES
    where = [f"| {one} | {read.verdict}{f': {read.why}' if read.why else ''} |" for one, read in served.items()]
    return (
        "\n".join(
            [
                *_beginning(card, name, tags=[TEI] if is_served else []),
                *_use(encoder, f"distilcse/{name}-{encoder.fingerprint[:8]}", is_served=is_served),
                "## Where it can be served\n",
                "sentence-transformers gives this model's vectors. Programs that read its files in their own way:\n",
                "| program | gives this model's vectors |\n|---|---|",
                *where,
                "",
                *(["## Settings\n\n| setting | value |\n|---|---|"] if card.settings else []),
                *(f"| `{key}` | {_cell(value)} |" for key, value in card.settings.items()),
            ]
        ).rstrip()
        + "\n"
    )


def card_with(card: Card, folder: Path, code: str) -> str:
    """As `model_card`, for a folder that only this Python code can use."""
    return "\n".join([*_beginning(card, _name(folder), tags=[]), f"```python\n{code}```\n"])


def _name(folder: Path) -> str:
    return plain_name(folder.absolute().name) or "student"


def _beginning(card: Card, name: str, *, tags: list[str]) -> Iterable[str]:
    """Front matter, title, how it was made, and the table of facts."""
    yield f"---\n{_front_matter(card, name, tags)}\n---\n"
    yield f"# {card.title}\n\nMade with DistilCSE {__version__} {card.made}\n"
    facts = [*card.rows, *_license_rows(card)]
    if facts:
        yield "| | |\n|---|---|"
        yield from (f"| {_cell(key)} | {_cell(value)} |" for key, value in facts)
        yield ""
    yield "## Use\n"


def _front_matter(card: Card, name: str, tags: list[str]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    scores = []
    if card.sts_b_dev is not None:
        one = EvalResult(
            task_type="semantic-similarity",
            task_name="Semantic Similarity",
            dataset_type="stsb",
            dataset_name="STS-B, development set",
            dataset_split="dev",
            metric_type="spearman_cosine",
            metric_value=card.sts_b_dev / 100,
        )
        scores.append(one)
    base = card.base or Origin(name="")
    ours = ["sentence-transformers", "sentence-similarity", "feature-extraction", "distilcse"]
    ours += [DISTILLED] if card.is_distilled or base.is_distilled else []
    data = ModelCardData(
        base_model=_one_or_more(base.hub_ids),
        # of several bases without this, the hub makes a merge
        base_model_relation="finetune" if len(base.hub_ids) > 1 else None,
        language=_one_or_more(base.languages),
        datasets=_one_or_more(list(dict.fromkeys(card.datasets))),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[*ours, *tags],
        model_name=name if scores else None,
        eval_results=scores or None,
        **base.license,
    )
    return data.to_yaml()


def _one_or_more(values: list[str]) -> str | list[str] | None:
    return (values[0] if len(values) == 1 else values) or None


def _license_rows(card: Card) -> Iterable[tuple[str, str]]:
    for name, says in {one.name: one.licenses for one in (card.teacher, card.base) if one}.items():
        yield f"license of {name}", "; ".join(says) or "none is stated in its files"


def _cell(text: object) -> str:
    """A text in one cell of a table."""
    return " ".join(re.sub(r"(?<!\\)\|", r"\|", str(text)).split())


def _use(encoder: SentenceEncoder, name: str, *, is_served: bool) -> Iterable[str]:
    yield f"```python\n{snippets.sentence_transformers(encoder)}```\n"
    if not is_static(encoder.backbone):
        yield f"With transformers alone:\n\n```python\n{snippets.plain_transformers(encoder)}```\n"
        yield "From its ONNX file, which `distilcse export FOLDER --to onnx` adds to the folder, with onnxruntime and"
        yield f"tokenizers, or with fastembed 0.9:\n\n```python\n{snippets.onnx_runtime(encoder)}```\n"
        yield f"```python\n{snippets.fastembed(encoder, name)}```\n"
    if is_served:
        yield f"With text-embeddings-inference:\n\n```bash\n{snippets.text_embeddings_inference(encoder)}```\n"
    yield f"Scored by mteb:\n\n```python\n{snippets.mteb(name)}```\n"


def _statements(folder: Path) -> list[str]:
    """What the record of the download says about licenses, else what the card says."""
    try:
        found = [LicenseStatement(**one) for one in read_json(folder / SOURCE)["licenses"]]
    except (DataError, KeyError, TypeError):
        stated = card_statement(folder / "README.md", "README.md")
        found = [stated] if stated else []
    says = (f"{one.says} ({one.where})" for one in found)
    return list(dict.fromkeys(_LINK.sub(r"\1", one) for one in says))  # what it links to stays in its folder


def _texts(value: Any) -> list[str]:
    """A field of front matter that is a text or a list of texts; none if it is anything else."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str) and one.isprintable()]
