"""The records of a JSON file, each with the file and line where it stands: one a line, or all in one array."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from distilcse_cli.data.lines import MAX_LINE_BYTES, BadLines, read_lines
from distilcse_cli.data.opening import BLOCK_BYTES, Kind, opened
from distilcse_cli.errors import DataError

Record = tuple[str, dict[str, object] | None]
"""Where it stands, and its keys and values; None for a blank line."""
_BETWEEN = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_REMAKE = "write an array of records, or one record a line"


def read_records(path: Path, kind: Kind, bad: BadLines, encoding: str | None) -> Iterator[Iterator[Record]]:
    """Yield batches of records, each of about a mebibyte of text.

    Raises:
        DataError: the file cannot be read, is damaged, or is no array of records.
    """
    if kind.format == "json":
        yield from _array(path, bad, encoding)
        return
    for first, lines in read_lines(path, bad, encoding):
        yield _records(lines, first, f"{path}, line ", bad)


def _records(lines: list[str], first: int, prefix: str, bad: BadLines) -> Iterator[Record]:
    for number, line in enumerate(lines, first):
        where = prefix + str(number)
        if not line or line.isspace():
            yield where, None
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            bad.meet(f"{where} is no JSON object: {error}")
            continue
        if isinstance(value, dict):
            yield where, value
        else:
            bad.meet(_no_object(where, value))


def _no_object(where: str, value: object) -> str:
    return f"{where} is no JSON object: it is a {type(value).__name__}"


def _array(path: Path, bad: BadLines, encoding: str | None) -> Iterator[Iterator[Record]]:
    decode = codecs.getincrementaldecoder("utf-8")().decode
    text, number, opens = "", 1, "["
    with opened(path, encoding) as (_, file):
        while True:
            # more at a time while a record is not whole: a long one is not tried a thousand times
            block = file.read(max(BLOCK_BYTES, len(text)))
            try:
                text += decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise DataError(f"{path} is not UTF-8 after record {number - 1}", hint="mend it") from error
            text = text.removeprefix("\ufeff").lstrip() if opens else text
            if opens and text:
                if not text.startswith(opens):
                    raise DataError(f"{path} is one JSON object, but records are needed", hint=_REMAKE)
                text, opens = text[1:], ""
            values, text, fault = _values(text)
            yield _objects(values, number, f"{path}, record ", bad)
            number += len(values)
            if text.startswith("]"):
                if (text[1:] + decode(file.read(1))).strip():
                    raise DataError(f"{path} has text after the end of its array", hint=_REMAKE)
                return
            if not block or len(text) > MAX_LINE_BYTES:
                raise DataError(f"{path}, record {number} is no JSON: {fault}", hint="mend it")


def _objects(values: list[object], first: int, prefix: str, bad: BadLines) -> Iterator[Record]:
    for number, value in enumerate(values, first):
        if isinstance(value, dict):
            yield f"{prefix}{number}", value
        else:
            bad.meet(_no_object(f"{prefix}{number}", value))


def _values(text: str) -> tuple[list[object], str, str]:
    """Return the values at the start of `text`, what follows them, and why that is none."""
    values: list[object] = []
    at = 0
    while True:
        at = cast(re.Match[str], _BETWEEN.match(text, at)).end()
        if at == len(text) or text[at] == "]":
            return values, text[at:], "the array has no end"
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            return values, text[at:], str(error)
        values.append(value)
