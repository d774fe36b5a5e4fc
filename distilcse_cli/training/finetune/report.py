"""What stage 2 made: the report, and the model card of its student."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
class FinetuneReport:
    """What stage 2 made."""

    folder: Path
    num_triples: int
    num_steps: int
    seconds: float
    final_loss: float
    logit_scale: float
    kept_step: int
    """Step whose student this is."""
    dev_set: str | None
    """What students were compared by."""
    dev_score: float | None
    start_score: float | None
    """The development score before the first step."""
    held_out_accuracy: float | None
    """Share x 100 of held-out anchors that pick their positive out of all held-out keys."""
    agreement: Agreement | None
    """With the teacher, if the student was kept near one."""

    @property
    def setback(self) -> str | None:
        """What to warn of: a development score below the one that the student came with."""
        before, now = self.start_score, self.dev_score
        if before is None or now is None or now >= before:
            return None
        return f"fine-tuning has made the student worse: {self.dev_set} {before:.2f} before, {now:.2f} now"

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and `distilcse.json`."""
        return asdict(self) | {"folder": str(self.folder)}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "FinetuneReport":
        """The report whose `as_dict` this is."""
        agreed = facts["agreement"]
        return cls(**{**facts, "folder": Path(facts["folder"]), "agreement": Agreement(**agreed) if agreed else None})


def finetune_card(student: SentenceEncoder, facts: dict[str, Any]) -> str:
    """Markdown for the student folder's README.md.

    Args:
        student: the finished student.
        facts: the resolved settings and results, as written to `distilcse.json`.
    """
    triplets, teacher, result = facts["triplets"], facts["teacher"], facts["result"]
    negatives = "" if triplets["have_hard_negatives"] else ", without hard negatives"
    rows = [
        ("started from", facts["student"]["reference"]),
        ("student", f"{student.num_layers} layers, {student.num_parameters:,} parameters"),
        ("pooling", f"{student.pooling}{', normalized' if student.normalize else ''}"),
        ("embedding width", str(student.embedding_dim)),
        ("most tokens", f"{student.max_length} (trained on at most {facts['settings']['max_length']})"),
        ("triples", f"{result['num_triples']:,}{negatives}"),
        ("training", f"{result['num_steps']:,} steps in {console.duration(result['seconds'])}"),
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
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in facts["settings"].items())
    facts_table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""{_FRONT_MATTER}
# A fine-tuned sentence encoder

Made with DistilCSE {facts["versions"]["distilcse"]}: supervised contrastive fine-tuning on triples of
anchor, positive and hard negative, the second stage of [arXiv:2112.05638](https://arxiv.org/abs/2112.05638).

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
