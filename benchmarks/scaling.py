"""Cost per sentence and resident memory at 60,000, 600,000 and 1.2 million sentences.

    python -m benchmarks.scaling [--sizes 60000,600000,1200000] [--jobs train,extract,encode]

There are 600,000 lines of news; beyond that they come again with a suffix, which makes them other
sentences of nearly the same length. Training takes steps on a corpus of each size with the bank
full; it is measured by the token, as the lengths of a slice's batches vary. A round of `extract` is
all of a corpus; of `encode` it is the next eight windows of one, 65,536 sentences at most, so that
no size has a fast or slow minute of the machine for itself: 19 rounds take the largest from end to
end. The sizes take turns, each in its own process.
"""

import argparse
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.common import add_options, compare, pinned_machine, read_lines, run, save, show
from benchmarks.distill import OUR_STEPS, add_slices, slice_settings, write_student
from benchmarks.peer import Peer
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.corpus import Corpus, prepare_corpus
from distilcse_cli.data.tokens import tokenize_corpus
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.training.settings import DistillSettings

JOBS = {"train": ("Train", "tokens"), "extract": ("Extract", "sentences"), "encode": ("EncodeSlices", "sentences")}
"""Name -> the class in `scaling_sides`, and what its rate counts."""


def corpus_of(size: int, folder: Path) -> Corpus:
    """A corpus of about so many sentences; repeated lines get a suffix."""
    lines = read_lines("news")
    copies = chain.from_iterable(
        (line if copy == 0 else f"{line} {copy + 1}" for line in lines) for copy in range(-(-size // len(lines)))
    )
    text = folder / f"{size}.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for _, line in zip(range(size), copies, strict=False))
    return prepare_corpus([str(text)], CorpusSettings())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    add_slices(parser)
    parser.add_argument("--sizes", default="60000,600000,1200000")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--bank-size", type=int, default=65_536)
    parser.add_argument(
        "--encoder",
        choices=["teacher", "student"],
        default="teacher",
        help="what extract and encode run: beside a small student the cost of all else shows more",
    )
    parser.add_argument("--pooler", help="the student's pooling (default: the teacher's)")
    arguments = parser.parse_args()

    before = pinned_machine(arguments.threads)
    sizes = sorted(int(size) for size in arguments.sizes.split(","))
    jobs_asked = arguments.jobs.split(",")
    if not set(jobs_asked) <= JOBS.keys():
        parser.error(f"--jobs are some of {', '.join(JOBS)}, not {arguments.jobs}")
    jobs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = {f"{size:,}": corpus_of(size, folder) for size in sizes}
        student = write_student(arguments, folder, pooler=arguments.pooler)
        for job in jobs_asked:
            starters = {size: _starter(job, corpus, student, arguments, folder) for size, corpus in corpora.items()}
            jobs[job], failed = compare(starters, arguments.rounds, unit=JOBS[job][1], ours=next(iter(starters)))
            show(jobs[job], failed)
            # a later job may break off after hours
            save("scaling", _facts(arguments) | {"jobs": jobs}, before, arguments.out)


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    asked = {name: getattr(arguments, name) for name in ("rounds", "bank_size", "encoder", "layers", "pooler")}
    return asked | {"repeated": "lines beyond 600,000 are the first ones with a suffix"}


def _starter(job: str, corpus: Corpus, student: str, arguments: argparse.Namespace, folder: Path) -> Any:
    if job != "train":
        model = student if arguments.encoder == "student" else arguments.model
        settings: dict[str, Any] = {"model": model, "corpus": str(corpus.folder)}
    else:
        teacher = load_encoder(arguments.model)
        tokens = tokenize_corpus(corpus, teacher.tokenizer, DistillSettings().max_length)
        settings = slice_settings(arguments, OUR_STEPS) | {
            "corpus": str(corpus.folder),
            "tokens": str(tokens.folder),
            "student": student,
            "width": teacher.embedding_dim,
            "rows": str(folder / f"rows-{len(corpus)}.npy"),
            "bank_size": arguments.bank_size,
        }
    return lambda: Peer(f"benchmarks.scaling_sides:{JOBS[job][0]}", settings, threads=arguments.threads)


if __name__ == "__main__":
    run(main)
