"""`distilcse extract`: the teacher's embeddings of a corpus, computed once."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.config import CorpusSettings, EncodeSettings


def extract(
    teacher: Annotated[str, typer.Option(help="Model to run: folder, catalogue name, hub id or file of weights.")],
    corpus: options.Corpus,
    out: Annotated[Path, typer.Option(help="Folder for embeddings.npy, sentences.txt and manifest.json.")],
    pooler: options.Pooler = None,
    revision: options.Revision = None,
    base: options.Base = None,
    tokenizer: options.Tokenizer = None,
    dtype: options.RowDtype = EncodeSettings.dtype,
    max_length: options.MaxLength = EncodeSettings.max_length,
    normalize: options.Normalize = EncodeSettings.normalize,
    batch_tokens: options.BatchTokens = EncodeSettings.batch_tokens,
    nproc: options.NumProcesses = 1,
    device: options.Device = None,
    compute_dtype: options.ComputeDtype = "auto",
    text_column: options.TextColumn = CorpusSettings.text_column,
    split_sentences: options.SplitSentences = CorpusSettings.split_sentences,
    min_words: options.MinWords = CorpusSettings.min_words,
    max_words: options.MaxWords = CorpusSettings.max_words,
    on_bad_line: options.OnBadLine = CorpusSettings.on_bad_line,
    json: options.Json = False,
) -> None:
    """Run the teacher once over a corpus and keep its embeddings. Interrupted, the same command goes on."""
    settings = EncodeSettings(dtype=dtype, max_length=max_length, normalize=normalize, batch_tokens=batch_tokens)
    corpus_settings = CorpusSettings(
        text_column=text_column,
        split_sentences=split_sentences,
        min_words=min_words,
        max_words=max_words,
        on_bad_line=on_bad_line,
    )
    options.require_outside(out / "embeddings.npy", teacher, base, tokenizer)

    from distilcse_cli.models.reference import ModelRef

    named = ModelRef(ref=teacher, pooler=pooler, revision=revision, base=base, tokenizer=tokenizer)

    from distilcse_cli.launcher import launch

    if launch(nproc, sys.argv[1:], device):
        return

    from distilcse_cli.data.corpus import open_corpus, prepare_corpus
    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.teacher.extract import extract as run

    runtime = choose_runtime(own_device(device), compute_dtype)
    with joined(runtime) as ranks:
        console.log(f"computing on {runtime}{ranks}")
        prepared = ranks.on_main(lambda: prepare_corpus(corpus, corpus_settings).folder)
        encoder = ranks.main_first(lambda: named.load(max_length=max_length))
        started = time.perf_counter()
        store = run(encoder, open_corpus(prepared), out, settings, runtime, ranks=ranks)
        seconds = time.perf_counter() - started

    num_rows, width = store.embeddings.shape
    rate = store.num_extracted / seconds
    if json:
        console.result_json(
            {
                "out": str(out),
                "num_rows": num_rows,
                "width": width,
                "dtype": dtype,
                "num_truncated": store.manifest["num_truncated"],
                "num_extracted": store.num_extracted,
                "seconds": seconds,
                "sentences_per_second": rate,
            }
        )
    else:
        console.result(
            f"{out}: {num_rows:,} rows of {width} {dtype}; {store.num_extracted:,} of them computed now"
            f" in {console.duration(seconds)} ({rate:,.0f} sentences/s)"
        )
