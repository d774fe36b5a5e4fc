"""Lines of text to a file of embeddings: a row a line, always, in memory that does not grow."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distilcse_cli import console
from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.lines import BadLines, read_lines
from distilcse_cli.errors import DataError
from distilcse_cli.files import atomic_path
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.inference import embed_stream
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving.formats import open_rows

STDIN = Path("/dev/stdin")


@dataclass(frozen=True)
class EncodeReport:
    """What `encode_file` wrote."""

    num_rows: int
    width: int
    dtype: str
    num_truncated: int
    """Lines longer than `max_length` tokens, of which the rest was left out."""
    max_length: int

    def as_dict(self) -> dict[str, Any]:
        """Field names and values, for JSON."""
        return asdict(self)


def encode_file(
    source: Path, encoder: SentenceEncoder, out: Path, settings: EncodeSettings, runtime: Runtime
) -> EncodeReport:
    """Embed every line of `source`, blank ones included, into `out`.

    Args:
        source: text file, gzipped if it ends in `.gz`, or `STDIN`.
        encoder: any model.
        out: `.npy`, `.npz`, `.jsonl` or `.parquet`; appears when it is complete.
        settings: length limit, normalization, dtype of the rows, size of the batches.
        runtime: device and number format of the matrix products.

    Raises:
        UsageError: `out` has another suffix.
        DataError: `source` cannot be read, has no lines, or one that is not UTF-8 (it is named);
            or `out` cannot be written.
        ModelError: an embedding is not finite.
    """
    num_rows = num_truncated = 0
    stream = embed_stream(encoder, lines(source), runtime, settings)
    with (
        console.Progress("encode", None, "sentences") as progress,
        atomic_path(out) as temporary,
        open_rows(temporary, encoder.embedding_dim, settings.dtype) as rows,
    ):
        for window in stream:
            rows.append(window.sentences, window.embeddings)
            num_rows += len(window.sentences)
            num_truncated += window.num_truncated
            progress.update(len(window.sentences))
        if num_rows == 0:
            raise DataError(f"{source} has no lines, so there is nothing to encode")
    return EncodeReport(
        num_rows=num_rows,
        width=encoder.embedding_dim,
        dtype=settings.dtype,
        num_truncated=num_truncated,
        max_length=settings.max_length or encoder.max_length,
    )


def lines(source: Path) -> Iterator[str]:
    r"""Yield every line as it is, without its `\n` or `\r\n`: no cleaning, blanks and repeats kept.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8; its number is named.
    """
    for _, batch in read_lines(source, _KeepEveryLine("stop")):
        for line in batch:
            yield line.removesuffix("\r")


class _KeepEveryLine(BadLines):
    """Stops at a line that cannot be read: left out, it would shift the rows of all lines behind it."""

    def meet(self, message: str) -> None:
        raise DataError(message, hint="mend the line; encode leaves none out, so that row i stays line i")
