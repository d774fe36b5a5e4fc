"""Stage-1 training: ours against the published loop and sentence-transformers' trainer.

    python -m benchmarks.distill [--st-python PYTHON]

All train the same student on the same lines of news, in slices that alternate; see
`benchmarks.training`. Ours and the published loop start with a full bank. sentence-transformers has
no bank and learns the teacher's stored rows by MSE.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.peer import Peer
from benchmarks.training import OUR_STEPS, compare_trainers, of_slice, training_parser, write_student
from distilcse_cli.config import CorpusSettings, EncodeSettings
from distilcse_cli.data.corpus import prepare_corpus
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.models.reference import ModelRef, resolve_reference
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.teacher.extract import extract
from distilcse_cli.training.settings import DistillSettings


def write_corpus(arguments: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Tokens, teacher rows and texts of the news lines."""
    text = folder / "news.txt"
    text.write_text("\n".join(common.read_lines("news")[: arguments.sentences]) + "\n", encoding="utf-8")
    corpus, teacher = prepare_corpus([str(text)], CorpusSettings()), ModelRef(ref=arguments.model).load()
    store = extract(teacher, corpus, folder / "store", EncodeSettings(), choose_runtime())
    np.save(folder / "rows.npy", store.embeddings)
    (folder / "columns.json").write_text(json.dumps({"sentence": list(corpus)}), encoding="utf-8")
    tokens = tokenize_corpus(corpus, teacher.tokenizer, DistillSettings().max_length)
    return {"tokens": str(tokens.folder), "rows": str(folder / "rows.npy"), "data": str(folder / "columns.json")}


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--sentences", type=common.whole(), default=70_000, help="lines of news")
    parser.add_argument("--bank-size", type=int, default=65_536)
    arguments = common.parse(parser)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        student, made = write_student(arguments, folder), write_corpus(arguments, folder)
        data = {"student": student, "tokens": made["tokens"], "rows": made["rows"], "bank_size": arguments.bank_size}

        def side(name: str, settings: dict[str, Any]) -> Peer:
            return Peer(f"benchmarks.sides:{name}", data | settings, threads=arguments.threads)

        published = of_slice(arguments) | {"teacher": str(resolve_reference(arguments.model))}
        compare_trainers(
            "distill",
            arguments,
            {
                "ours": partial(side, "Distill", of_slice(arguments, OUR_STEPS)),
                "published loop": partial(side, "PublishedDistill", published),
            },
            unit="sentences",
            of_st={"model": student, "data": made["data"], "labels": made["rows"]},
            facts={"bank_size": arguments.bank_size},
        )


if __name__ == "__main__":
    common.run(main)
