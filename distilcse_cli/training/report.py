"""What a stage made: its report, and the model card of its student."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from distilcse_cli import console
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.teacher.agreement import Agreement

_FRONT_MATTER = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
- distilcse
---
"""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What either stage says of the student that it made."""

    stage: ClassVar[str]
    """The command's name."""

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
    agreement: Agreement | None
    """With the teacher, on what was held out; None without a teacher, or with too little held out."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """The report whose `as_dict` this is."""
        agreed = facts["agreement"]
        return cls(**{**facts, "folder": Path(facts["folder"]), "agreement": Agreement(**agreed) if agreed else None})


@dataclass(frozen=True, kw_only=True)
class DistillReport(StageReport):
    """What stage 1 made."""

    stage = "distill"

    num_sentences: int
    """Sentences trained on."""


def model_card(
    student: SentenceEncoder, facts: dict[str, Any], *, title: str, made: str, rows: Sequence[tuple[str, str]]
) -> str:
    """Markdown for a student folder's README.md.

    Args:
        student: the finished student.
        facts: the resolved settings and results, as written to `distilcse.json`.
        title: of the card.
        made: the sentence on how it was made, behind the program's name and version.
        rows: names and values of what the stage has to say, below what both say of a student.
    """
    result = facts["result"]
    of_both = [
        ("student", f"{student.num_layers} layers, {student.num_parameters:,} parameters"),
        ("pooling", f"{student.pooling}{', normalized' if student.normalize else ''}"),
        ("embedding width", str(student.embedding_dim)),
        ("most tokens", f"{student.max_length} (trained on at most {facts['settings']['max_length']})"),
        ("training", f"{result['num_steps']:,} steps in {console.duration(result['seconds'])}"),
    ]
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in facts["settings"].items())
    facts_table = "\n".join(f"| {name} | {value} |" for name, value in [*of_both, *rows])
    return f"""{_FRONT_MATTER}
# {title}

Made with DistilCSE {facts["versions"]["distilcse"]} {made}

| | |
|---|---|
{facts_table}

```python
from sentence_transformers import SentenceTransformer

embeddings = SentenceTransformer("path/to/this/folder").encode(["A sentence.", "Another one."])
```

## Settings

| setting | value |
|---|---|
{settings}
"""


def distill_card(student: SentenceEncoder, facts: dict[str, Any]) -> str:
    """The model card of a student of stage 1.

    Args:
        student: the finished student.
        facts: as for `model_card`.
    """
    teacher, result = facts["teacher"], facts["result"]
    rows = [
        ("teacher", f"{teacher['source']} ({teacher['num_layers']} layers, {teacher['num_parameters']:,} parameters)"),
        ("corpus", f"{facts['corpus']['num_sentences']:,} sentences"),
    ]
    if result["dev_score"] is not None:
        rows.append((f"{result['dev_set']}, after step {result['kept_step']:,}", f"{result['dev_score']:.2f}"))
    agreed = result["agreement"]
    if agreed:
        rows.append(("pair Spearman with the teacher", f"{agreed['pair_spearman']:.2f}"))
        rows.append(("ten nearest shared with the teacher", f"{agreed['neighbor_overlap']:.2f} %"))
        if agreed["mean_cosine"] is not None:
            rows.append(("mean cosine to the teacher", f"{agreed['mean_cosine']:.4f}"))
    made = (
        "by contrastive knowledge distillation\n([arXiv:2112.05638](https://arxiv.org/abs/2112.05638))."
        " Agreement is measured on held-out\nsentences of the training corpus."
    )
    return model_card(student, facts, title="A distilled sentence encoder", made=made, rows=rows)
