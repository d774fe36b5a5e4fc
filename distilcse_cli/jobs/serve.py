"""Students in use: indexes and searches, students aligned, converted and put together with their teacher."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from distilcse_cli.config import EncodeSettings, TextSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.options import ModelOptions, Ref
from distilcse_cli.outputs import require_file, require_free, require_new_folder, require_outside, require_utf8
from distilcse_cli.serving.settings import AlignSettings, IndexSettings, QueryMachine, SearchSettings
from distilcse_cli.setting import check, settings_of
from distilcse_cli.training.settings import DistillSettings

if TYPE_CHECKING:
    from distilcse_cli.models.convert import Conversion
    from distilcse_cli.models.encoder import SentenceEncoder
    from distilcse_cli.runtime import Runtime
    from distilcse_cli.serving.align import AlignReport
    from distilcse_cli.serving.index import IndexReport
    from distilcse_cli.serving.index_folder import OpenedIndex
    from distilcse_cli.serving.search import Hit


def index(
    rows: Ref,
    *,
    out: Ref,
    sentences: Ref | None = None,
    model: Ref | None = None,
    text: TextSettings,
    model_options: ModelOptions,
    settings: IndexSettings,
    overwrite: bool = False,
) -> "IndexReport":
    """Make a FAISS index of rows, which `search` searches. It names the model whose space the rows live in.

    Args:
        rows: An embedding store, or a .npy file of `distilcse encode`.
        out: Folder for the index.
        sentences: For a .npy file: the text that was encoded.
        model: For a .npy file: the model that encoded it.
        overwrite: Replace the index in `out`.

    Returns:
        Size, kind and recall of the index.

    Raises:
        UsageError: A .npy file comes without its text and model, or a store with them.
        DataError: The rows cannot be read, or are not those of the text and model; `out` is in the way.
        DeviceError: FAISS is not installed, or cannot use the device.
    """
    source, folder = Path(rows), Path(out)
    text_file = None if sentences is None else Path(sentences)
    require_utf8(folder)
    if not overwrite:
        require_free(folder)
    require_outside(folder, source, text_file, model)
    if not os.path.lexists(source):
        raise DataError(f"{source} does not exist", hint="name a store of distilcse extract, or a .npy file")
    is_array = not source.is_dir()
    if is_array and (text_file is None or model is None):
        missing = "--sentences FILE" if text_file is None else "--model REF"
        raise UsageError(f"{source} holds numbers alone", hint=f"name what was encoded, and by what: {missing}")
    if not is_array and (text_file is not None or model is not None):
        option = "--model" if text_file is None else "--sentences"
        raise UsageError(f"{option} does not go with {source}, a store, which knows its own", hint="leave it out")

    from distilcse_cli.serving.index import build_index
    from distilcse_cli.serving.index_folder import require_faiss
    from distilcse_cli.serving.index_rows import rows_of_array, rows_of_store

    require_faiss()  # before a model is loaded
    if text_file is not None and model is not None:
        from distilcse_cli.runtime import choose_runtime

        require_file(text_file)
        found = rows_of_array(source, text_file, model_options.of(model), choose_runtime("cpu"), text=text)
    else:
        found = rows_of_store(source)
    return build_index(found, folder, settings, overwrite=overwrite)


def search(
    index: Ref,
    queries: str | Iterable[str],
    *,
    model: Ref | None = None,
    model_options: ModelOptions,
    settings: SearchSettings,
    machine: QueryMachine,
) -> "list[list[Hit]]":
    """Find the sentences of an index that are nearest to each query.

    Args:
        index: Folder that `index` wrote.
        queries: A text to search for, or several.
        model: Model that embeds the queries: that of the index, or a student in its space. Default: that of the index.

    Returns:
        The results of each query, the nearest first.

    Raises:
        UsageError: The model is of another space, or `k` is larger than the index.
        DataError: The folder is no index, or a query is blank.
    """
    from distilcse_cli.serving import search as serving
    from distilcse_cli.serving.index_folder import open_index

    opened = open_index(Path(index))
    encoder, runtime = query_model(opened, model, model_options, settings, machine)
    asked = [queries] if isinstance(queries, str) else queries
    return [hits for _, hits in serving.search(opened, asked, encoder, settings, runtime)]


def query_model(
    index: "OpenedIndex",
    model: Ref | None,
    model_options: ModelOptions,
    settings: SearchSettings,
    machine: QueryMachine,
) -> "tuple[SentenceEncoder, Runtime]":
    """The model that embeds the queries of an index, and where it computes."""
    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.serving.search import query_model as find

    ref = None if model is None else os.fspath(model)
    runtime = choose_runtime(machine.device, machine.compute_dtype)
    return find(index, ref, model_options.of, settings.max_length), runtime


def align(
    student: Ref, *, to: Ref, out: Ref, model_options: ModelOptions, settings: AlignSettings, machine: QueryMachine
) -> "AlignReport":
    """Fit one linear map behind a student, so that it can query its teacher's index.

    Nothing is written if the map does not help.

    Args:
        student: Model to align: folder, catalogue name or hub id.
        to: Embedding store of the teacher.
        out: Folder for the aligned student; must not exist or be empty.

    Returns:
        How well student and teacher agree on held-out sentences, before and after.

    Raises:
        DataError: The store has too few rows, or `out` is in the way.
        VerdictError: The student is no better with the map.
    """
    folder = Path(out)
    reference = model_options.of(student)
    require_new_folder(folder, reference.ref, Path(to), model_options.base, model_options.tokenizer)

    from distilcse_cli.runtime import choose_runtime
    from distilcse_cli.serving.align import align as run
    from distilcse_cli.teacher.store import open_store

    store = open_store(Path(to))
    return run(reference, store, folder, settings, choose_runtime(machine.device, machine.compute_dtype))


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """What the folder says besides the weights."""

    max_length: Annotated[int | None, settings_of(EncodeSettings)["max_length"]] = None
    vocab_size: Annotated[int | None, settings_of(DistillSettings)["vocab_size"]] = None
    save_dtype: Annotated[str, settings_of(DistillSettings)["save_dtype"]] = "float32"

    def __post_init__(self) -> None:
        check(self)


def convert(
    weights: Ref,
    *,
    out: Ref,
    corpus: Sequence[str] | None = None,
    model_options: ModelOptions,
    settings: ConvertSettings,
) -> "Conversion":
    """Turn a file of weights into a model folder, or a model folder into a smaller one.

    Args:
        weights: State dict, .pth or .safetensors, or a catalogue name of one. To make it smaller, also a model folder.
        out: Folder for the model; must not exist or be empty.
        corpus: Sentences for `vocab_size`.

    Returns:
        Architecture and sizes of the model.

    Raises:
        UsageError: `vocab_size` without `corpus`, or a folder that would stay as it is.
        DataError: The corpus cannot be read, or `out` is in the way.
        ModelError: The file, the base or the tokenizer is unfit.
    """
    if (settings.vocab_size is None) != (not corpus):
        raise UsageError("--vocab-size and --corpus go together", hint="such as --vocab-size 16000 --corpus FILE")
    folder, reference = Path(out), model_options.of(weights)
    require_new_folder(folder, reference.ref, model_options.base, model_options.tokenizer, *(corpus or ()))

    from distilcse_cli.models.convert import convert as run

    return run(reference, folder, corpus=corpus or (), **asdict(settings))
