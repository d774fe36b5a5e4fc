"""What a file is, by its bytes: packed or not, in which encoding, lines or a table.

Its name decides only where the bytes cannot. A stream passes three stages
on its way to the readers of lines: it is unpacked, turned into UTF-8, and looked at.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from distilcse_cli.errors import DataError

BLOCK_BYTES = 1 << 20
CHECK_FILE = "check the file and its permissions"
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # three letters alone could begin a text
_PACKED = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zst": "zst"}
_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_UTF8_MARK = b"\xef\xbb\xbf"
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Byte order marks. That of UTF-32 begins with that of UTF-16."""
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)", re.ASCII)
_KEY = rb'\{\s*"(?:[^"\\\n]|\\.)*"\s*:'
_RECORD, _ARRAY = re.compile(rb"\s*" + _KEY), re.compile(rb"\s*\[\s*" + _KEY)


class Reader(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, `size` at most; none at the end."""


@dataclass(frozen=True)
class Kind:
    """What the bytes of a file are."""

    format: str
    """`text`, `csv`, `tsv`, `jsonl`, `json` (an array of records) or `parquet`."""
    packed: str = ""
    """`gz`, `bz2`, `xz`, `zst`, or empty."""
    delimiter: str = ","
    """Between the cells of a csv file."""
    line_end: bytes = b"\n"

    def __str__(self) -> str:
        packed = f".{self.packed}" * bool(self.packed)
        return self.format + packed + self.delimiter.strip(",") + " CR" * (self.line_end == b"\r")

    @property
    def is_table(self) -> bool:
        """Whether it has columns."""
        return self.format != "text"

    @property
    def is_json(self) -> bool:
        """Whether it holds JSON records."""
        return self.format in ("json", "jsonl")

    @property
    def is_csv(self) -> bool:
        """Whether its first row may or may not name the columns."""
        return self.format in ("csv", "tsv")


@contextmanager
def opened(path: Path, encoding: str | None = None, descriptor: int | None = None) -> Iterator[tuple[Kind, Reader]]:
    """Open a file, and tell what it is.

    Args:
        path: the file, for messages also where `descriptor` is read.
        encoding: of its text; None is UTF-8.
        descriptor: read this open file, from where it stands, and leave it open.

    Returns:
        What the file is, and its bytes: unpacked and as UTF-8, if it is not parquet. Bytes that are wrong in
        `encoding` stay wrong.

    Raises:
        DataError: the file cannot be read or unpacked, is a zip or tar archive, or is UTF-16 or UTF-32 where
            `encoding` is another one.
    """
    packed = ""
    try:
        with ExitStack() as stack:
            source = path if descriptor is None else descriptor
            raw = stack.enter_context(open(source, "rb", buffering=0, closefd=descriptor is None))
            file = _Ahead(raw)
            head = file.ahead(16)
            if head.startswith(b"PAR1") and (_named(path)[0] == "parquet" or head[4:5] == b"\x15"):
                yield Kind("parquet"), file
                return
            packed = _packed(path, head)
            if packed:
                file = _Ahead(stack.enter_context(_UNPACK[packed](file)))
            _check_encoding(path, file.ahead(4096), encoding)
            if not _is_utf8(encoding):
                file = _Ahead(_Transcoder(file, cast(str, encoding)))
            yield _look(path, packed, file.ahead(BLOCK_BYTES)), file
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _not_whole(path, packed, error) from error
    except UnicodeError as error:  # of codecs that are not for files, such as idna
        raise DataError(f"cannot read {path} as {encoding}: {error}", hint="name another --encoding") from error
    except OSError as error:
        # unpackers raise it without a number
        if packed and error.errno is None:
            raise _not_whole(path, packed, error) from error
        raise DataError(f"cannot read {path}: {error.strerror}", hint=CHECK_FILE) from error


def descriptor_of(path: Path) -> int | None:
    """The number of the open file that a name such as `/dev/stdin` stands for; None for other names."""
    match = _DESCRIPTOR.fullmatch("/dev/fd/0" if str(path) == "/dev/stdin" else str(path))
    return int(match[1]) if match else None


def kind_of(path: Path, encoding: str | None = None) -> Kind:
    """What the file is.

    Raises:
        DataError: as `opened` raises.
    """
    with opened(path, encoding) as (kind, _):
        return kind


def unpacked_name(path: Path) -> str:
    """The file's name without `.gz` and the like."""
    return path.stem if _named(path)[1] else path.name


class _Ahead:
    """A stream whose next bytes can be looked at."""

    def __init__(self, file: Reader) -> None:
        self._file = file
        self._ahead = b""

    def ahead(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. They are still to be read."""
        pieces, have = [self._ahead], len(self._ahead)
        while have < size and (piece := self._file.read(size - have)):
            pieces.append(piece)
            have += len(piece)
        self._ahead = b"".join(pieces)
        return self._ahead

    def read(self, size: int = -1, /) -> bytes:
        """Return those that were looked at, then others."""
        if not self._ahead:
            return self._file.read(size)
        end = len(self._ahead) if size < 0 else size
        block, self._ahead = self._ahead[:end], self._ahead[end:]
        return block


class _Transcoder:
    """A stream in another encoding, as UTF-8. Wrong bytes become a byte that is wrong in UTF-8, too."""

    def __init__(self, file: Reader, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_WRONG)
        self._at_end = False

    def read(self, size: int = -1, /) -> bytes:
        """Return the next text; `size` counts the bytes before."""
        text = ""
        while not text and not self._at_end:
            block = self._file.read(size)
            self._at_end = not block
            text = self._decoder.decode(block, final=self._at_end)
        return text.encode("utf-8", "surrogateescape")


_WRONG = "distilcse-wrong-bytes"
codecs.register_error(_WRONG, lambda error: ("\udcff", cast(UnicodeDecodeError, error).end))


def _zst(file: _Ahead) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(_File(file), mode="r"), "zstd")


class _File(io.RawIOBase):
    """A stream as pyarrow wants it."""

    def __init__(self, file: Reader) -> None:
        super().__init__()
        self._source = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(size)


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zst": _zst,
}


def _named(path: Path) -> tuple[str, str]:
    """What the name says: format and packing."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = _PACKED.get(suffixes.pop(), "") if suffixes and suffixes[-1] in _PACKED else ""
    return _FORMATS.get(suffixes[-1], "text") if suffixes else "text", packed


def _packed(path: Path, head: bytes) -> str:
    if head.startswith(b"PK\x03\x04"):
        raise DataError(f"{path} is a zip archive", hint="unpack it and name a file in it; save a spreadsheet as csv")
    for magic, packed in _MAGIC.items():
        if head.startswith(magic) and (packed != "bz2" or _BZIP2.match(head)):
            return packed
    return _named(path)[1]


def _not_whole(path: Path, packed: str, error: Exception) -> DataError:
    kind = "gzip" if packed == "gz" else packed
    return DataError(f"{path} is not a whole {kind} file: {error}", hint="download it or make it again")


def _is_utf8(encoding: str | None) -> bool:
    return encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _check_encoding(path: Path, head: bytes, encoding: str | None) -> None:
    """Refuse text of two or four bytes a character where another encoding is expected: it would be read as garbage."""
    found, why = next(((name, "byte order mark") for mark, name in _MARKS.items() if head.startswith(mark)), ("", ""))
    if not found and len(head) >= 16:
        for at, name in enumerate(("utf-16-be", "utf-16-le")):
            high, low = head[at::2], head[1 - at :: 2]  # in Latin text the high bytes are NUL, in all text those of \n
            ends = [high[i : i + 1] for i, byte in enumerate(low) if byte == 0x0A and i < len(high)]
            is_latin = high.count(0) > 0.6 * len(high) and low.count(0) < 0.1 * len(low)
            if is_latin or (len(ends) >= 4 and len(ends) == head.count(b"\n") and set(ends) == {b"\0"}):
                found, why = name, "NULs"
    if found and not (encoding and codecs.lookup(encoding).name.startswith(found[:6])):
        spoken = found[:6].upper()
        raise DataError(
            f"{path} is {spoken} by its {why}, not {encoding or 'UTF-8'}", hint=f"--encoding {found} reads it"
        )


def _look(path: Path, packed: str, head: bytes) -> Kind:
    """Tell lines, tables and JSON apart by the first block."""
    head = head.removeprefix(_UTF8_MARK)
    if head[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive", hint="unpack it and name a file in it")
    line_end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
    form = _named(path)[0]
    # a csv file may begin with a cell of JSON, and an array may be the text of a tab-separated one
    if form in ("text", "jsonl"):
        form = _json(head, line_end, path.name.lower().endswith(".json")) or form
    return Kind(form, packed, _delimiter(head, line_end) if form == "csv" else ",", line_end)


def _json(head: bytes, line_end: bytes, is_named_so: bool) -> str | None:
    """`jsonl` for a record on the first line, `json` for an array of records or one long record; None for neither."""
    if _ARRAY.match(head):
        return "json"
    if not _RECORD.match(head):
        return "json" if is_named_so and head.lstrip()[:1] == b"[" else None
    first, end, _ = head.lstrip().partition(line_end)
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        if end:
            return "json" if is_named_so else None
    return "jsonl"


def _delimiter(head: bytes, line_end: bytes) -> str:
    """The first of comma, semicolon, tab and bar that splits the first row; a comma if none does."""
    first = head.lstrip(b"\r\n").partition(line_end)[0].rstrip(b"\r").decode("utf-8", "replace")
    for delimiter in ",;\t|":
        try:
            if len(next(csv.reader([first], delimiter=delimiter), ())) > 1:
                return delimiter
        except csv.Error:
            break
    return ","
