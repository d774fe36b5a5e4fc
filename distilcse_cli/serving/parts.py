"""An output in several files, or one that an interrupted run can go on with.

Rows are cut into windows as in a plain run, whatever files they go to. A window that reaches over the end of a share is
embedded as a whole by both jobs, and each keeps its own rows. So no row depends on files, shares or interruptions.

Finished work lies beside the output in a folder `.NAME.run`, and goes there whole or not at all:

    run.json                     what decides the rows and the files
    0-of-1.lock                  the lock of a share; the file stays, and says that the share has been begun
    rows-000000008192.parquet    rows of a window, with their tokens, until the file they belong to is whole
    00003.json                   the record of a whole file: bytes, sha256 and counts
"""

import re
import shutil
from bisect import bisect
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from distilcse_cli import console, files
from distilcse_cli.data.every_line import Lines
from distilcse_cli.data.rows import cells_of, open_parquet
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.files import atomic_path, read_json, sha256_file, write_json
from distilcse_cli.models.embed import Embedder
from distilcse_cli.paths import ANOTHER, real
from distilcse_cli.serving.encode import GO_ON, Beside, Kept
from distilcse_cli.serving.formats import open_rows, state_folder
from distilcse_cli.serving.lengths import Lengths
from distilcse_cli.serving.settings import OutputSettings
from distilcse_cli.serving.survey import Survey
from distilcse_cli.teacher.extract import manifest_of, require_same_run

_RUN = "run.json"
_TOKENS = "tokens"


@dataclass(frozen=True)
class Part:
    """A file of the output."""

    number: int
    path: Path
    start: int
    """Its first row."""
    end: int
    """The row after its last."""
    pieces: dict[int, int] = field(default_factory=dict)
    """First row of each of its pieces -> the row after the last. A piece lies in one window."""


def parts_of(out: Path, survey: Survey, output: OutputSettings) -> tuple[list[Part], int]:
    """The files that this job writes, and the number of all files.

    Raises:
        UsageError: there are more jobs than files or rows.
    """
    number, total = output.share
    num_rows, size = survey.num_rows, output.rows_per_file
    shares = [num_rows * k // total for k in range(total + 1)]
    bounds = shares if size is None else [*range(0, num_rows, size), num_rows]
    num_files = len(bounds) - 1
    if total > min(num_files, num_rows):
        what = f"{num_rows:,} rows" if size is None else f"{num_files:,} files of {size:,} rows"
        raise UsageError(f"--shard {output.shard}, but the input makes only {what}", hint="start fewer jobs")
    parts = []
    for k in range(num_files * number // total, num_files * (number + 1) // total):
        name = f"{out.stem}-{k:05d}-of-{num_files:05d}{out.suffix}" if output.in_parts else out.name
        start, end = bounds[k], bounds[k + 1]
        cuts = [start, *(row for row in survey.windows if start < row < end), end]
        parts.append(Part(k, out.with_name(name), start, end, dict(pairwise(cuts))))
    return parts, num_files


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise DataError(f"cannot remove {path}: {error.strerror}", hint=f"remove it yourself, or {ANOTHER}") from error


class Parts:
    """The files of this job: those that are whole, and what is done of the others. Rank 0 has it.

    Args:
        inputs: what is embedded.
        out: name of the output.
        embedder: for the shape and identity of the rows.
        beside: cells of other columns.
        output: which files, and whether to go on.
    """

    def __init__(self, inputs: Lines, out: Path, embedder: Embedder, beside: Beside, output: OutputSettings) -> None:
        self.num_encoded = 0
        self._inputs, self._out, self._embedder = inputs, out, embedder
        self._beside, self._output = beside, output

    def begin(self, held: ExitStack, survey: Survey, overwrite: bool) -> list[tuple[int, int]]:
        """Lock the share, and find what is to be done.

        Returns:
            Ranges of rows to embed, each from the first row of a window to the end of one.

        Raises:
            UsageError: there are more jobs than files, or a file to write is read.
            DataError: the output is unfinished, and is not to go on; it is of another run, in the way, or written now.
        """
        self.mine, self._num_files = parts_of(self._out, survey, self._output)
        self._folder = state_folder(self._out, self._num_files if self._output.in_parts else None)
        self._take(held, overwrite=overwrite)
        self._require_same_run(survey)
        self._remove_leftovers()
        self._open = [part for part in self.mine if not self._is_whole(part)]
        missing = [piece for part in self._open for piece in part.pieces.items() if not self._chunk(piece[0]).exists()]
        self._missing = dict(missing)
        self._assemble()
        num_rows = sum(part.end - part.start for part in self.mine)
        num_done = num_rows - sum(end - start for start, end in missing)
        self._progress = held.enter_context(console.Progress("encode", num_rows, "sentences", initial=num_done))
        ranges: list[tuple[int, int]] = []
        for window in sorted({bisect(survey.windows, start) for start in self._missing}):
            start, end = survey.windows[window - 1 : window + 1]
            if ranges and ranges[-1][1] == start:
                start, _ = ranges.pop()
            ranges.append((start, end))
        return ranges

    def go_to(self, row: int) -> None:
        """Say which row the next window begins with."""
        self._row = row

    def add(self, sentences: list[str], kept: Kept) -> None:
        """Keep what is missing of the rows of a window, and write the files that are complete now."""
        first, self._row = self._row, self._row + len(sentences)
        columns = [sentences, kept[0], *self._beside.take(len(sentences)), kept[1]]
        for start, end in [piece for piece in self._missing.items() if first <= piece[0] < self._row]:
            self._keep(start, *(column[start - first : end - first] for column in columns))
            del self._missing[start]
            self.num_encoded += end - start
            self._progress.update(end - start)
        self._assemble()

    def written(self) -> tuple[Lengths, tuple[Path, ...]]:
        """Counts of the rows of all files of this job, and these files."""
        lengths = Lengths(self._embedder.max_length)
        for part in self.mine:
            lengths.add_counted(read_json(self._record(part)), self._record(part))
        return lengths, tuple(part.path for part in self.mine)

    def _chunk(self, start: int) -> Path:
        return self._folder / f"rows-{start:012d}.parquet"

    def _record(self, part: Part) -> Path:
        return self._folder / f"{part.number:05d}.json"

    def _take(self, held: ExitStack, *, overwrite: bool) -> None:
        """Hold the lock of this share, and see that nothing is in the way."""
        self._lock = self._folder / "{}-of-{}.lock".format(*self._output.share)
        try:
            begun = self._lock.exists()
            self._folder.mkdir(parents=True, exist_ok=True)
            if not held.enter_context(files.lock(self._lock)):
                console.warn(f"{self._folder} is on a file system without locks: run each job once at a time")
        except files.Busy as error:
            raise DataError(f"another process is writing {self._out}", hint="wait until it ends") from error
        except OSError as error:
            raise DataError(f"cannot write {self._folder}: {error.strerror}", hint=ANOTHER) from error
        if begun and not (overwrite or self._output.resume):
            num_whole = sum(self._record(part).exists() for part in self.mine)
            message = f"{self._out} was begun before: {num_whole:,} of {len(self.mine):,} files are whole"
            raise DataError(message, hint=self._ways_on())
        held.push(self._forget_start)
        in_the_way = self._in_the_way()
        if overwrite:
            for path in {*in_the_way, *self._folder.iterdir()} - {self._lock}:
                _remove(path)
        elif not begun:
            ours = {part.path.name for part in self.mine if self._output.resume and self._record(part).exists()}
            for path in in_the_way:
                if path.name not in ours:
                    raise DataError(f"{path} exists already", hint=f"{ANOTHER}, or --overwrite removes the whole set")

    def _ways_on(self) -> str:
        """What to do about a run that was begun. A job of several cannot start all of them anew."""
        if self._output.shard is None:
            return GO_ON
        return f"--resume continues it. To start again, remove the files of all jobs and {self._folder}"

    def _in_the_way(self) -> list[Path]:
        """Files of an earlier set of this name that would stay beside the new one, or be replaced."""
        name = rf"{re.escape(self._out.stem)}-\d{{5,}}-of-(\d{{5,}}){re.escape(self._out.suffix)}"
        mine = {part.path.name for part in self.mine}
        found = []
        for path in sorted(self._out.parent.iterdir()) if self._output.in_parts else ():
            match = re.fullmatch(name, path.name)
            if match and (path.name in mine or int(match[1]) != self._num_files):
                if any(real(source) == real(path) for source in self._inputs.sources):
                    raise UsageError(f"--out {self._out} would overwrite {path}, which is read", hint=ANOTHER)
                found.append(path)
        return found

    def _forget_start(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a failure before any row is done, leave no trace, so that a run with other settings may follow."""
        if kind is None or any(self._chunk(row).exists() for part in self.mine for row in part.pieces):
            return
        if not any(self._record(part).exists() for part in self.mine):
            self._lock.unlink(missing_ok=True)
            if {path.name for path in self._folder.iterdir()} <= {_RUN}:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _require_same_run(self, survey: Survey) -> None:
        path, columns = self._folder / _RUN, [[name, str(kind)] for name, kind in self._beside.columns.items()]
        wanted = manifest_of(self._embedder, survey.num_rows, survey.fingerprint) | {
            "rows_per_file": self._output.rows_per_file,
            "num_files": self._num_files,
            "columns": columns,
        }
        if not path.exists():
            write_json(path, wanted)
            return
        found = read_json(path)
        if found.get("corpus_fingerprint") != survey.fingerprint:
            message = f"{self._inputs} is not the text that {self._out} was begun with"
            raise DataError(message, hint=f"put that text back; {self._ways_on()}")
        require_same_run(self._out, found, wanted, hint=f"take model and settings of before; {self._ways_on()}")

    def _remove_leftovers(self) -> None:
        """Remove the temporary files of this share that a killed run left."""
        mine = {part.path.name for part in self.mine}
        mine |= {path.name for part in self.mine for path in (self._record(part), *map(self._chunk, part.pieces))}
        for path in (*self._folder.iterdir(), *self._out.parent.iterdir()):
            name, temporary, _ = path.name.partition(".tmp-")
            if temporary and name[1:] in mine:
                path.unlink(missing_ok=True)

    def _is_whole(self, part: Part) -> bool:
        """Whether a file is there as it was recorded."""
        record = self._record(part)
        if not record.exists():
            return False
        wanted = read_json(record)
        if (
            not part.path.is_file()
            or part.path.stat().st_size != wanted.get("bytes")
            or sha256_file(part.path) != wanted.get("sha256")
        ):
            console.warn(f"{part.path} is not as it was written: it is made again")
            record.unlink()
            return False
        self._remove_chunks(part)
        return True

    def _remove_chunks(self, part: Part) -> None:
        for start in part.pieces:
            self._chunk(start).unlink(missing_ok=True)

    def _keep(self, start: int, sentences: list[str], embeddings: Any, *columns: Any) -> None:
        """Write the rows of a piece, with the cells of other columns and the number of tokens."""
        import pyarrow as pa

        cells = enumerate(self._beside.columns.values())  # by number: a name could be that of the tokens
        kinds = {f"{i}": kind or pa.string() for i, kind in cells} | {_TOKENS: pa.int32()}
        embedder = self._embedder
        with (
            atomic_path(self._chunk(start)) as temporary,
            open_rows(temporary, embedder.width, embedder.dtype, kinds) as rows,
        ):
            rows.append(sentences, embeddings, columns)

    def _assemble(self) -> None:
        """Write the files that all rows are there of."""
        for part in list(self._open):
            if not any(start in self._missing for start in part.pieces):
                self._write(part)
                self._open.remove(part)

    def _write(self, part: Part) -> None:
        embedder, lengths = self._embedder, Lengths(self._embedder.max_length)
        with (
            atomic_path(part.path) as temporary,
            open_rows(temporary, embedder.width, embedder.dtype, self._beside.columns) as rows,
        ):
            for start in part.pieces:
                with open_parquet(self._chunk(start)) as file:
                    *cells, tokens, sentences, embeddings = file.read().combine_chunks().columns
                numbers = embeddings.combine_chunks().flatten().to_numpy().reshape(-1, embedder.width)
                lengths.add(tokens.to_numpy())
                rows.append(sentences.to_pylist(), numbers, [cells_of(cell) for cell in cells])
        size, sha256 = part.path.stat().st_size, sha256_file(part.path)
        rows_of = {"file": part.path.name, "first_row": part.start, "num_rows": part.end - part.start}
        write_json(self._record(part), rows_of | {"bytes": size, "sha256": sha256} | lengths.as_dict())
        self._remove_chunks(part)
