"""`distilcse encode`: lines of text to embeddings, in one file or many."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import defaults, options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import EncodeSettings, MachineSettings, TextSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.launcher import launch
from distilcse_cli.outputs import require_file, require_outside, require_writable
from distilcse_cli.paths import file_target
from distilcse_cli.rendezvous import in_a_group
from distilcse_cli.serving.settings import OutputSettings
from distilcse_cli.setting import DATA, OUTPUT

if TYPE_CHECKING:
    from distilcse_cli.data.every_line import Lines
    from distilcse_cli.serving.encode import EncodeReport

EXAMPLES = """
distilcse encode sentences.txt
cat sentences.txt | distilcse encode --model student --out rows.parquet
distilcse encode a.parquet b.parquet --text-column text --id-column id --out rows.parquet --rows-per-file 500000
"""
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE",
        help="Text, a sentence a line, packed or not; or tables with --text-column. - or nothing reads stdin."
        " Several make one output, in their order.",
        show_default=False,
        readable=False,  # opening it says so, with the exit code for data
    ),
]
IdColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--id-column",
        metavar="NAME",
        rich_help_panel=DATA,
        help="Column to keep beside the embedding, in .parquet and .jsonl. Repeat it for several.",
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
    typer.Option(
        "--overwrite",
        rich_help_panel=OUTPUT,
        help="Replace the file named after FILE, or the files of --rows-per-file; start an interrupted output anew.",
    ),
]


@options.with_settings
def encode(
    *,
    file: Files = None,
    model: options.Model = None,
    model_options: options.ModelOptions,
    text: TextSettings,
    id_column: IdColumns = None,
    settings: EncodeSettings,
    machine: MachineSettings,
    output: OutputSettings,
    out: Out = None,
    overwrite: Overwrite = False,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Embed text files, a row for every line, blank ones included; or a column of tables."""
    files = file or [Path("-")]
    out = _output(files, out, id_column or [], output, overwrite=overwrite)
    inputs = _inputs(files, out, machine.nproc, text, id_column or [], output)
    reference = model_options.of(defaults.model_or_default(model))
    require_outside(out, reference.ref, reference.base, reference.tokenizer)
    if launch(machine.nproc, sys.argv[1:], machine.device):
        return

    from distilcse_cli.ranks import joined, own_device
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.serving.encode import encode_file

    runtime = choose_runtime(own_device(machine.device), machine.compute_dtype)
    with joined(runtime, machine.rendezvous_timeout) as ranks:
        # what is kept names its model by a fingerprint, which a light one lacks
        encoder = ranks.main_first(lambda: reference.load(max_length=settings.max_length, light=not output.keeps))
        console.log(f"encoding with {encoder.source} on {runtime}{ranks}")
        started = time.perf_counter()
        report = encode_file(inputs, encoder, out, settings, runtime, output=output, overwrite=overwrite, ranks=ranks)
        seconds = time.perf_counter() - started
    _print(out, report, seconds, json=json)


def _print(out: Path, report: "EncodeReport", seconds: float, *, json: bool) -> None:
    if report.num_truncated:
        share = f"{report.num_truncated:,} of {report.num_rows:,} lines"
        cut = f"are longer than {report.max_length} tokens and were cut ({report.lengths.share_truncated:.2%})"
        console.warn(f"{share} {cut}")
    console.log(str(report.lengths))
    rate = report.num_encoded / seconds
    if json:
        timing = {"seconds": seconds, "sentences_per_second": rate}
        console.result_json({"out": str(out), **report.as_dict(), **timing})
        return
    name, computed = str(report.files[0]), ""
    if len(report.files) > 1:
        name += f" to {report.files[-1].name}"
    if report.num_encoded < report.num_rows:
        computed = f"; {report.num_encoded:,} of them computed now"
    console.result(
        f"{name}: {report.num_rows:,} rows of {report.width} {report.dtype}{computed}"
        f" in {console.duration(seconds)} ({rate:,.0f} sentences/s)"
    )


def _is_stdin(file: Path) -> bool:
    return str(file) == "-"


def _output(
    files: list[Path], out: Path | None, id_columns: list[str], output: OutputSettings, *, overwrite: bool
) -> Path:
    """The file to write: `out`, which is replaced, or one named after the input, which is not."""
    from distilcse_cli.data.opening import unpacked_name
    from distilcse_cli.serving.formats import check_suffix, state_folder

    if overwrite and (output.resume or output.shard is not None):
        other = "--resume" if output.resume else "--shard"
        hint = "leave one of them out" if output.resume else "a job would remove what the others wrote: remove it first"
        raise UsageError(f"--overwrite does not go with {other}", hint=hint)
    if out is None:
        if len(files) > 1 or _is_stdin(files[0]):
            what = "text from stdin has" if len(files) == 1 else "several files have"
            raise UsageError(f"{what} no name to call the output by", hint="name it: --out FILE.npy")
        out = Path(Path(unpacked_name(files[0])).stem + ".npy")
        is_ours = overwrite or output.in_parts or (output.resume and state_folder(out).exists())
        if os.path.lexists(out) and not is_ours and not _is_same(out, files[0]):
            raise DataError(f"{out} exists already", hint="--overwrite replaces it, --out FILE writes another one")
    check_suffix(out, id_columns)
    require_writable(out)
    if output.keeps and file_target(out) is None:
        raise UsageError(f"{out} is no file, so nothing beside it can be kept", hint="name a file: --out FILE.npy")
    return out


def _is_same(out: Path, file: Path) -> bool:
    return os.path.exists(out) and os.path.exists(file) and out.samefile(file)  # noqa: PTH110  raises no OSError


def _inputs(
    files: list[Path], out: Path, num_processes: int, text: TextSettings, id_columns: list[str], output: OutputSettings
) -> "Lines":
    """Check inputs and output before anything slow starts."""
    from distilcse_cli.data.every_line import Lines, is_stream, require_lines

    sources = [Path("/dev/stdin") if _is_stdin(file) else file for file in files]
    for file, source in zip(files, sources, strict=True):
        if source is file:
            require_file(file)
        if is_stream(source):
            name = "stdin" if source is not file else str(file)
            if num_processes > 1 or in_a_group():
                raise UsageError(f"several processes cannot share {name}", hint="name a FILE, or leave --nproc out")
            if output.reads_twice:
                what = "--fail-on-truncate" if not output.keeps else "an output in parts or with --resume"
                raise UsageError(
                    f"{what} reads its input twice, but {name} is a stream", hint="write it to a file first"
                )
            if source is not file and (sys.stdin is None or sys.stdin.isatty()):
                raise UsageError("there is nothing to encode", hint="name a FILE, or pipe lines into the command")
        if source is file and _is_same(out, file):
            raise UsageError(f"--out {out} would overwrite the input", hint="choose another --out")
        require_lines(source, text, id_columns)
    return Lines(sources=sources, text=text, columns=tuple(id_columns))
