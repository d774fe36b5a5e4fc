"""`distilcse encode`: lines of text to a file of embeddings."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import EncodeSettings, MachineSettings, TextSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.launcher import launch
from distilcse_cli.outputs import require_file, require_outside, require_writable
from distilcse_cli.rendezvous import in_a_group
from distilcse_cli.setting import OUTPUT

EXAMPLES = """
distilcse encode sentences.txt
cat sentences.txt | distilcse encode --model student --out rows.parquet
"""
File = Annotated[
    Path | None,
    typer.Argument(
        help="Text, a sentence a line, packed or not; or a table with --text-column. - or nothing reads stdin.",
        show_default=False,
        readable=False,  # opening it says so, with the exit code for data
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=OUTPUT,
        help="File to write: .npy, .npz, .jsonl or .parquet. Default: FILE's name with .npy, in the working folder.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Without --out: replace the file if it exists."),
]


@options.with_settings
def encode(
    *,
    file: File = None,
    model: options.Model = None,
    model_options: options.ModelOptions,
    text: TextSettings,
    settings: EncodeSettings,
    machine: MachineSettings,
    out: Out = None,
    overwrite: Overwrite = False,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Embed a text file, a row for every line, blank ones included; or a column of a table."""
    out = _output(file, out, overwrite=overwrite)
    source = _source(file, out, machine.nproc, text)
    reference = model_options.of(defaults.model_or_default(model))
    require_outside(out, reference.ref, reference.base, reference.tokenizer)
    if launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.serving.encode import encode_file

    runtime = choose_runtime(own_device(machine.device), machine.compute_dtype)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        encoder = ranks.main_first(lambda: reference.load(max_length=settings.max_length, light=True))
        console.log(f"encoding with {encoder.source} on {runtime}{ranks}")
        started = time.perf_counter()
        report = encode_file(source, encoder, out, settings, runtime, text=text, ranks=ranks)
        seconds = time.perf_counter() - started

    if report.num_truncated:
        share = f"{report.num_truncated:,} of {report.num_rows:,} lines"
        console.warn(f"{share} are longer than {report.max_length} tokens and were cut")
    rate = report.num_rows / seconds
    if json:
        timing = {"seconds": seconds, "sentences_per_second": rate}
        console.result_json({"out": str(out), **report.as_dict(), **timing})
        return
    console.result(
        f"{out}: {report.num_rows:,} rows of {report.width} {report.dtype}"
        f" in {console.duration(seconds)} ({rate:,.0f} sentences/s)"
    )


def _is_stdin(file: Path | None) -> bool:
    return file is None or str(file) == "-"


def _output(file: Path | None, out: Path | None, *, overwrite: bool) -> Path:
    """The file to write: `out`, which is replaced, or one named after the input, which is not."""
    from distilcse_cli.data.opening import unpacked_name
    from distilcse_cli.serving.formats import check_suffix

    if out is not None:
        check_suffix(out)
        require_writable(out)
        return out
    if file is None or _is_stdin(file):
        raise UsageError("text from stdin has no name to call the output by", hint="name it: --out FILE.npy")
    out = Path(Path(unpacked_name(file)).stem + ".npy")
    if os.path.lexists(out) and not overwrite and not _is_same(out, file):
        raise DataError(f"{out} exists already", hint="--overwrite replaces it, --out FILE writes another one")
    require_writable(out)
    return out


def _is_same(out: Path, file: Path) -> bool:
    return os.path.exists(out) and os.path.exists(file) and out.samefile(file)  # noqa: PTH110  raises no OSError


def _source(file: Path | None, out: Path, num_processes: int, text: TextSettings) -> Path:
    """Check input and output before anything slow starts."""
    from distilcse_cli.data.every_line import require_lines
    from distilcse_cli.data.opening import descriptor_of

    source = Path("/dev/stdin") if file is None or _is_stdin(file) else file
    if source is file:
        require_file(file)
    if descriptor_of(source) is not None or not source.is_file():
        if num_processes > 1 or in_a_group():
            name = "stdin" if source is not file else str(file)
            raise UsageError(f"several processes cannot share {name}", hint="name a FILE, or leave --nproc out")
        if source is not file and (sys.stdin is None or sys.stdin.isatty()):
            raise UsageError("there is nothing to encode", hint="name a FILE, or pipe lines into the command")
    if source is file and _is_same(out, file):
        raise UsageError(f"--out {out} would overwrite the input", hint="choose another --out")
    require_lines(source, text)
    return source
