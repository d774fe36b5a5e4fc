"""Results of a run: the report of each stage, and the model card of its student."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from distilcse_cli import console
from distilcse_cli.models.card import Card, Origin, hub_data, model_card
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.vocabulary import SmallVocabulary
from distilcse_cli.teacher.agreement import Agreement
from distilcse_cli.training.dev import StsDev

_CONTRASTIVE = "([arXiv:2112.05638](https://arxiv.org/abs/2112.05638))"
_LEARNED = {
    "mse": "it learned to come near its teacher's embeddings (mean squared error).",
    "cosine": "it learned to come near its teacher's embeddings (cosine).",
    "ckd": "contrastive: it learned to pick its teacher's\nembedding out of many " + _CONTRASTIVE + ".",
    "ckd+mse": "contrastive: it learned to pick its teacher's\nembedding out of many "
    + _CONTRASTIVE
    + ", and to come near it (mean squared error).",
    "kl": "it learned to match its teacher's softmax over many embeddings\n(Kullback-Leibler divergence).",
}
"""What each of `losses.LOSSES` is, for the card."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A trained student in numbers. A stage adds fields and a card of its own."""

    title: ClassVar[str] = "A sentence encoder"
    """Title of the model card."""
    folder: Path
    num_steps: int
    seconds: float
    final_loss: float
    logit_scale: float
    kept_step: int
    """Step whose student this is."""
    dev_set: str | None
    """What students were compared by."""
    dev_score: float | None
    agreement: Agreement | None = None
    """With the teacher, on held-out sentences; None without a teacher, or if too few are held out."""

    def __fspath__(self) -> str:
        return str(self.folder)

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}

    def card_rows(self, facts: dict[str, Any]) -> list[tuple[str, str]]:  # noqa: ARG002  for subclasses
        """Names and values to add to the card; `facts` as for `model_card`."""
        return []

    def made(self, facts: dict[str, Any]) -> str:  # noqa: ARG002  for subclasses
        """How the student was made: the rest of the card's sentence after the program's name and version."""
        return "by training on sentences."

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """The report that `as_dict` turned into these facts."""
        agreed = facts["agreement"]
        return cls(**{**facts, "folder": Path(facts["folder"]), "agreement": Agreement(**agreed) if agreed else None})


@dataclass(frozen=True, kw_only=True)
class DistillReport(Report):
    """Result of stage 1."""

    title = "A distilled sentence encoder"
    num_sentences: int
    """Sentences trained on."""
    kept_layers: list[int] | None = None
    """Numbers of the layers that the student has of the model it was cut from; None has all."""
    space: dict[str, str] | None = None
    """Name and fingerprint of the teacher if the vectors can be compared with its own (`teacher.space`)."""
    vocab_size: int | None = None
    """Entries that `--vocab-size` left; None if all were kept."""

    def made(self, facts: dict[str, Any]) -> str:
        """As `Report.made`."""
        learned = _LEARNED[facts["settings"]["loss"]]
        return (
            f"by knowledge distillation: {learned}\nAgreement is measured on held-out sentences of the training corpus."
        )

    def card_rows(self, facts: dict[str, Any]) -> list[tuple[str, str]]:
        """As `Report.card_rows`."""
        teacher, agreed = facts["teacher"], self.agreement
        size = f"vectors of {teacher['embedding_dim']:,} numbers"
        if teacher["num_layers"] is not None:
            size = f"{teacher['num_layers']} layers, {teacher['num_parameters']:,} parameters"
        terms = teacher.get("terms")
        rows = [
            ("teacher", f"{teacher['source']} ({size})"),
            *([("the teacher's terms", " ".join(terms.replace("|", r"\|").split()))] if terms else []),
            ("corpus", f"{facts['corpus']['num_sentences']:,} sentences"),
        ]
        if self.kept_layers is not None:
            rows.append(
                ("layers kept", f"{', '.join(map(str, self.kept_layers)) or 'none'} of {facts['student']['reference']}")
            )
        if self.space is not None:
            rows.append(("space of the vectors", f"that of {self.space['name']}"))
        vocabulary = facts["student"].get("vocabulary")
        if vocabulary:
            rows.append(("vocabulary", str(SmallVocabulary(**vocabulary))))
        if self.dev_score is not None:
            rows.append((f"{self.dev_set}, after step {self.kept_step:,}", f"{self.dev_score:.2f}"))
        if agreed:
            rows.append(("pair Spearman with the teacher", f"{agreed.pair_spearman:.2f}"))
            rows.append(("ten nearest shared with the teacher", f"{agreed.neighbor_overlap:.2f} %"))
            if agreed.mean_cosine is not None:
                rows.append(("mean cosine to the teacher", f"{agreed.mean_cosine:.4f}"))
        return rows


@dataclass(frozen=True, kw_only=True)
class FinetuneReport(Report):
    """Result of stage 2."""

    title = "A fine-tuned sentence encoder"
    num_triples: int
    """Triples trained on."""
    start_score: float | None
    """The development score before the first step."""
    held_out_accuracy: float | None
    """Share x 100 of held-out anchors that pick their positive out of all held-out keys."""

    def made(self, facts: dict[str, Any]) -> str:  # noqa: ARG002
        """As `Report.made`."""
        return (
            "by supervised contrastive fine-tuning on triples of\nanchor, positive and hard negative, the second stage"
            f" of {_CONTRASTIVE[1:-1]}."
        )

    @property
    def setback(self) -> str | None:
        """A warning if the development score is lower than before the first step."""
        before, now = self.start_score, self.dev_score
        if before is None or now is None or now >= before:
            return None
        return f"fine-tuning has made the student worse: {self.dev_set} {before:.2f} before, {now:.2f} now"

    def card_rows(self, facts: dict[str, Any]) -> list[tuple[str, str]]:
        """As `Report.card_rows`."""
        teacher = facts["teacher"]
        negatives = "" if facts["triplets"]["have_hard_negatives"] else ", without hard negatives"
        rows = [
            ("started from", facts["student"]["reference"]),
            ("triples", f"{self.num_triples:,}{negatives}"),
        ]
        if self.dev_score is not None:
            scores = f"{self.dev_score:.2f} (before: {self.start_score:.2f})"
            rows.append((f"{self.dev_set}, after step {self.kept_step:,}", scores))
        if self.held_out_accuracy is not None:
            rows.append(("held-out anchors that pick their positive", f"{self.held_out_accuracy:.2f} %"))
        if teacher:
            rows.append(("kept near", f"{teacher['source']} ({teacher['num_layers']} layers)"))
        if self.agreement:
            rows.append(("pair Spearman with it, held-out anchors", f"{self.agreement.pair_spearman:.2f}"))
        return rows


def card_of(student: SentenceEncoder, facts: dict[str, Any], report: Report, folder: Path) -> str:
    """Markdown for a student folder's README.md.

    Args:
        student: the finished student.
        facts: the resolved settings, as in `distilcse.json`.
        report: its results.
        folder: where the student is saved.
    """
    stage, known = facts["stage"], facts.get("origins", {})
    data = facts.get("corpus") or facts.get("triplets") or {}
    rows = [
        ("student", f"{student.num_layers} layers, {student.num_parameters:,} parameters"),
        ("pooling", f"{student.pooling}{', normalized' if student.normalize else ''}"),
        ("embedding width", str(student.embedding_dim)),
        ("most tokens", f"{student.max_length} (trained on at most {facts['settings']['max_length']})"),
        ("training", f"{report.num_steps:,} steps in {console.duration(report.seconds)}"),
        ("machine", facts["runtime"]["machine"]),
        ("command", f"`distilcse {stage} --config distilcse.toml --out DIR`, with the file in this folder"),
        *report.card_rows(facts),
        *([("fingerprint of the data", data["fingerprint"])] if data else []),
    ]
    base, taught = (Origin(**known[one]) if known.get(one) else None for one in ("student", "teacher"))
    card = Card(
        title=report.title,
        made=report.made(facts),
        base=base,
        teacher=taught,
        rows=rows,
        datasets=hub_data(data.get("inputs", [])),
        sts_b_dev=report.dev_score if report.dev_set == StsDev.name else None,
        is_distilled=bool(facts.get("teacher")),
        settings=facts["settings"],
    )
    return model_card(student, card, folder)
