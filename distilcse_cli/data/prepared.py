"""What corpus and triplets share: distinct sentences in a cached folder, with the inputs that they came from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from distilcse_cli.config import CorpusSettings, TripletSettings
from distilcse_cli.data.cache import build_once, entry_folder, write_manifest
from distilcse_cli.data.npy import NpyWriter
from distilcse_cli.data.sources import Source
from distilcse_cli.errors import DataError

SENTENCES, OFFSETS = "sentences.txt", "offsets.npy"


def prepare(
    kind: str,
    version: int,
    sources: Sequence[Source],
    settings: CorpusSettings | TripletSettings,
    fill: Callable[[Path], dict[str, Any]],
) -> tuple[Path, bool]:
    """Build the cached folder `kind` for these inputs and settings, unless it was built before.

    `fill` writes the files into a folder and returns its fields of the manifest. Of a file in `sources`
    only the bytes count, not its name.

    Returns:
        The folder, and whether it existed already.

    Raises:
        DataError: an input changed while it was read, or the cache cannot be written; also what `fill` raises.
    """
    identities = [source.identity() for source in sources]
    made_with = asdict(settings)
    if settings.encoding is None:
        del made_with["encoding"]  # folders made before there was one keep their names

    def build(folder: Path) -> None:
        fields = fill(folder)
        names = names_of(sources)
        if [source.identity() for source in sources] != identities:
            raise DataError(f"{names} changed while it was read", hint="run again when it is complete")
        made_from = {"inputs": names, "identities": identities, "settings": made_with}
        write_manifest(folder, version, {**made_from, **fields})

    folder = entry_folder(kind, version, identities, made_with)
    return folder, build_once(folder, version, build)


def names_of(sources: Sequence[Source]) -> str:
    """Return the names of the inputs for a message or a manifest, which unlike file names must be UTF-8."""
    return ", ".join(source.name for source in sources).encode("utf-8", "backslashreplace").decode()


class SentenceWriter:
    """Writes sentences to `sentences.txt` in `folder`, and the position of each to `offsets.npy`."""

    def __init__(self, folder: Path) -> None:
        self.num_sentences = 0
        self._end = 0
        self._digest = hashlib.sha256()
        self._text = (folder / SENTENCES).open("wb")
        self._offsets = NpyWriter(folder / OFFSETS, np.int64)
        self._offsets.append(np.zeros(1))

    @property
    def fingerprint(self) -> str:
        """Hex sha256 of the bytes written so far to `sentences.txt`."""
        return self._digest.hexdigest()

    def append(self, sentences: Sequence[bytes]) -> None:
        """Add sentences, which are UTF-8 without line ends."""
        if not sentences:
            return
        ends = self._end + np.cumsum([len(sentence) + 1 for sentence in sentences])
        block = b"\n".join(sentences) + b"\n"
        self._text.write(block)
        self._digest.update(block)
        self._offsets.append(ends)
        self._end = int(ends[-1])
        self.num_sentences += len(sentences)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._text, self._offsets:
            pass
