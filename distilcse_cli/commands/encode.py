"""`distilcse encode`: lines of text to a file of embeddings."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.ranks import in_a_group


def encode(
    out: Annotated[Path, typer.Option(help="File to write: .npy, .npz, .jsonl or .parquet.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Text, a sentence a line (.gz too); - or nothing reads stdin.", show_default=False, readable=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder, catalogue name, hub id or file of weights."
            " Default: $DISTILCSE_MODEL, else all-minilm-l6 if downloaded."
        ),
    ] = None,
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
    json: options.Json = False,
) -> None:
    """Embed a text file, a row for every line, blank ones included."""
    settings = EncodeSettings(dtype=dtype, max_length=max_length, normalize=normalize, batch_tokens=batch_tokens)
    source = _source(file, out, nproc)
    reference = options.model_or_default(model)
    options.require_outside(out, reference, base, tokenizer)

    from distilcse_cli.models.reference import ModelRef

    named = ModelRef(ref=reference, pooler=pooler, revision=revision, base=base, tokenizer=tokenizer)

    from distilcse_cli.launcher import launch

    if launch(nproc, sys.argv[1:], device):
        return

    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.serving.encode import encode_file

    runtime = choose_runtime(own_device(device), compute_dtype)
    with joined(runtime) as ranks:
        encoder = ranks.main_first(lambda: named.load(max_length=max_length))
        console.log(f"encoding with {encoder.source} on {runtime}{ranks}")
        started = time.perf_counter()
        report = encode_file(source, encoder, out, settings, runtime, ranks=ranks)
        seconds = time.perf_counter() - started

    if report.num_truncated:
        share = f"{report.num_truncated:,} of {report.num_rows:,} lines"
        console.warn(f"{share} are longer than {report.max_length} tokens and were cut")
    rate = report.num_rows / seconds
    if json:
        timing = {"seconds": seconds, "sentences_per_second": rate}
        console.result_json({"out": str(out), **report.as_dict(), **timing})
    else:
        console.result(
            f"{out}: {report.num_rows:,} rows of {report.width} {report.dtype}"
            f" in {console.duration(seconds)} ({rate:,.0f} sentences/s)"
        )


def _source(file: Path | None, out: Path, num_processes: int) -> Path:
    """Check input and output before anything slow starts."""
    from distilcse_cli.serving.formats import check_suffix

    check_suffix(out)
    if file is None or str(file) == "-":
        if num_processes > 1 or in_a_group():
            raise UsageError("several processes cannot share stdin", hint="name a FILE, or leave --nproc out")
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("there is nothing to encode", hint="name a FILE, or pipe lines into the command")
        return Path("/dev/stdin")
    options.require_file(file)
    if os.path.exists(out) and out.samefile(file):  # noqa: PTH110  Path.exists raises where a name is too long
        raise UsageError(f"--out {out} would overwrite the input", hint="choose another --out")
    return file
