"""What stage 2 made: the report, and the model card of its student."""

from dataclasses import dataclass
from typing import Any

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.training.report import StageReport, model_card


@dataclass(frozen=True, kw_only=True)
class FinetuneReport(StageReport):
    """What stage 2 made."""

    stage = "finetune"

    num_triples: int
    """Triples trained on."""
    start_score: float | None
    """The development score before the first step."""
    held_out_accuracy: float | None
    """Share x 100 of held-out anchors that pick their positive out of all held-out keys."""

    @property
    def setback(self) -> str | None:
        """What to warn of: a development score below the one that the student came with."""
        before, now = self.start_score, self.dev_score
        if before is None or now is None or now >= before:
            return None
        return f"fine-tuning has made the student worse: {self.dev_set} {before:.2f} before, {now:.2f} now"


def finetune_card(student: SentenceEncoder, facts: dict[str, Any]) -> str:
    """The model card of a student of stage 2.

    Args:
        student: the finished student.
        facts: as for `model_card`.
    """
    triplets, teacher, result = facts["triplets"], facts["teacher"], facts["result"]
    negatives = "" if triplets["have_hard_negatives"] else ", without hard negatives"
    rows = [
        ("started from", facts["student"]["reference"]),
        ("triples", f"{result['num_triples']:,}{negatives}"),
    ]
    if result["dev_score"] is not None:
        scores = f"{result['dev_score']:.2f} (before: {result['start_score']:.2f})"
        rows.append((f"{result['dev_set']}, after step {result['kept_step']:,}", scores))
    if result["held_out_accuracy"] is not None:
        rows.append(("held-out anchors that pick their positive", f"{result['held_out_accuracy']:.2f} %"))
    if teacher:
        rows.append(("kept near", f"{teacher['source']} ({teacher['num_layers']} layers)"))
    if result["agreement"]:
        rows.append(("pair Spearman with it, held-out anchors", f"{result['agreement']['pair_spearman']:.2f}"))
    made = (
        "by supervised contrastive fine-tuning on triples of\nanchor, positive and hard negative, the second stage"
        " of [arXiv:2112.05638](https://arxiv.org/abs/2112.05638)."
    )
    return model_card(student, facts, title="A fine-tuned sentence encoder", made=made, rows=rows)
