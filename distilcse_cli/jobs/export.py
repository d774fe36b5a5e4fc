"""What `export`, `push` and their Python functions do: a student in the form that another program serves."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.options import ModelOptions, Ref, TeacherOptions
from distilcse_cli.outputs import require_file, require_new_folder, require_writable
from distilcse_cli.paths import expanded
from distilcse_cli.serving.settings import OnnxSettings


def export_onnx(
    student: Ref,
    *,
    sentences: Ref | None = None,
    overwrite: bool = False,
    model_options: ModelOptions,
    settings: OnnxSettings,
) -> dict[str, Any]:
    """Write a student as an ONNX graph into its own folder, where other programs look for it.

    Args:
        student: Folder of the student.
        sentences: File of sentences, one a line; the graph is checked on the first 64. Default: English ones of the
            package's own.
        overwrite: Replace the graphs that are there.

    Returns:
        Files, bytes, and how far the graphs are from torch, as `--json` prints them.

    Raises:
        UsageError: A graph is there already, or the packages of the extra `onnx` are missing.
        ModelError: The model cannot be such a graph.
        VerdictError: A graph is too far from torch; nothing is written.
    """
    from distilcse_cli.serving.onnx_graph import require_onnx

    require_onnx()

    from distilcse_cli.serving.onnx_export import FLOAT, NUM_CHECKED, require_new_graphs
    from distilcse_cli.serving.onnx_export import export_onnx as run
    from distilcse_cli.serving.sample import uneven

    folder = expanded(student)
    require_new_graphs(folder, overwrite=overwrite)
    require_writable(folder / FLOAT)
    texts = uneven(NUM_CHECKED) if sentences is None else _texts(Path(sentences), NUM_CHECKED)
    return run(model_options.of(student), texts, settings)


def export_web(
    student: Ref, *, out: Ref, sentences: Ref | None = None, model_options: ModelOptions, settings: OnnxSettings
) -> dict[str, Any]:
    """Write a page that searches sentences in the browser. npm fetches its parts.

    Args:
        student: Model of the page.
        out: Folder for the page; must not exist or be empty.
        sentences: File of sentences, one a line; the page takes the first 256. Default: English ones of the package's
            own.

    Returns:
        Files and bytes, as `--json` prints them.

    Raises:
        UsageError: npm or the packages of the extra `onnx` are missing.
        DataError: `out` is in the way.
        ModelError: The model cannot be such a graph.
        NetworkError: npm fetches nothing.
        VerdictError: The graph is too far from torch; nothing is written.
    """
    from distilcse_cli.serving.onnx_graph import require_onnx

    require_onnx()
    folder = Path(out)
    require_new_folder(folder, student, sentences, model_options.base, model_options.tokenizer)

    from distilcse_cli.serving.sample import SENTENCES
    from distilcse_cli.serving.web import MOST_SENTENCES, require_npm
    from distilcse_cli.serving.web import export_web as run

    require_npm()
    texts = list(SENTENCES) if sentences is None else _texts(Path(sentences), MOST_SENTENCES)
    return run(model_options.of(student), folder, texts, settings)


def _texts(file: Path, most: int) -> list[str]:
    """The first sentences of a file."""
    require_file(file)

    from distilcse_cli.data.every_line import lines

    texts = list(islice(filter(str.strip, lines(file)), most))
    if not texts:
        raise DataError(f"{file} has no sentences", hint="a sentence a line is needed")
    return texts


def export_asymmetric(
    student: Ref, *, teacher: Ref, out: Ref, model_options: ModelOptions, teacher_options: TeacherOptions
) -> dict[str, Any]:
    """Write a folder for sentence-transformers: queries through the student, documents through its teacher.

    Args:
        student: Model of the queries, in the space of `teacher`.
        teacher: Model of the documents.
        out: Folder to write; must not exist or be empty.

    Returns:
        Names, widths and sizes of both, as `--json` prints them.

    Raises:
        UsageError: The student is not in the teacher's space.
        DataError: `out` is in the way.
    """
    folder = Path(out)
    queries, documents = model_options.of(student), teacher_options.of(teacher)
    require_new_folder(folder, queries.ref, documents.ref, model_options.base, model_options.tokenizer)

    from distilcse_cli.serving.router_folder import export_router

    return export_router(queries, documents, folder)


def push(student: Ref, *, to_repo: str, private: bool = False, revision: str | None = None) -> dict[str, Any]:
    """Upload a student to the Hugging Face hub: model, card and graphs, without the files of the training.

    Args:
        student: Folder of the student. It is loaded first, as a check.
        to_repo: `owner/name` of the repository; it is made if it does not exist.
        private: A new repository is private, and one that exists has to be.
        revision: Branch to commit to, made if need be. Default: the main one.

    Returns:
        Address, commit, files and bytes, as `--json` prints them.

    Raises:
        UsageError: No local folder, no token, or a name that is none.
        ModelError: The folder is no whole model, or has no card.
        NetworkError: The hub is out of reach or refuses; nothing is committed.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", to_repo):
        raise UsageError(f"--to-repo is {to_repo!r}, but must be NAME/REPO", hint="such as your-name/student")

    from distilcse_cli.serving.push import push as run

    return run(str(student), to_repo, private=private, revision=revision)
