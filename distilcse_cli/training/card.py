"""The model card of a student: what it was made from, how, and what it scores."""

from typing import Any

from distilcse_cli import console
from distilcse_cli.models.encoder import SentenceEncoder

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


def model_card(student: SentenceEncoder, facts: dict[str, Any]) -> str:
    """Markdown for the student folder's README.md.

    Args:
        student: the finished student.
        facts: the resolved settings and results, as written to `distilcse.json`.
    """
    teacher, result = facts["teacher"], facts["result"]
    rows = [
        ("teacher", f"{teacher['source']} ({teacher['num_layers']} layers, {teacher['num_parameters']:,} parameters)"),
        ("student", f"{student.num_layers} layers, {student.num_parameters:,} parameters"),
        ("pooling", f"{student.pooling}{', normalized' if student.normalize else ''}"),
        ("embedding width", str(student.embedding_dim)),
        ("most tokens", f"{student.max_length} (trained on at most {facts['settings']['max_length']})"),
        ("corpus", f"{facts['corpus']['num_sentences']:,} sentences"),
        ("training", f"{result['num_steps']:,} steps in {console.duration(result['seconds'])}"),
    ]
    if result["dev_score"] is not None:
        rows.append((f"{result['dev_set']}, after step {result['kept_step']:,}", f"{result['dev_score']:.2f}"))
    agreed = result["agreement"]
    if agreed:
        rows.append(("pair Spearman with the teacher", f"{agreed['pair_spearman']:.2f}"))
        rows.append(("ten nearest shared with the teacher", f"{agreed['neighbor_overlap']:.2f} %"))
        if agreed["mean_cosine"] is not None:
            rows.append(("mean cosine to the teacher", f"{agreed['mean_cosine']:.4f}"))
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in facts["settings"].items())
    facts_table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""{_FRONT_MATTER}
# A distilled sentence encoder

Made with DistilCSE {facts["versions"]["distilcse"]} by contrastive knowledge distillation
([arXiv:2112.05638](https://arxiv.org/abs/2112.05638)). Agreement is measured on held-out
sentences of the training corpus.

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
