"""`distilcse search`: the sentences of an index that are nearest to a query."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.settings_file import Config
from distilcse_cli.config import TextSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.jobs.serve import query_model
from distilcse_cli.outputs import require_file
from distilcse_cli.serving.settings import QueryMachine, SearchSettings
from distilcse_cli.setting import DATA, MODELS, OUTPUT

if TYPE_CHECKING:
    from distilcse_cli.serving.search import Hit

EXAMPLES = """
distilcse search --index index "the market fell"
distilcse search --index index --queries questions.txt -k 5 --model student --json
distilcse search --index index --check 1000
"""
Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What to search for.", show_default=False)]
Index = Annotated[Path, typer.Option("--index", rich_help_panel=DATA, help="Folder that distilcse index wrote.")]
Queries = Annotated[
    Path | None, typer.Option(rich_help_panel=DATA, metavar="FILE", help="Search for every line of a file.")
]
Model = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=MODELS,
        metavar="REF",
        help="Model that embeds the queries: that of the index, or a student in its space. Default: that of the index.",
    ),
]
Check = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=OUTPUT,
        metavar="N",
        min=1,
        help="Print the recall against exact search: of N rows of the index, or of the first N queries.",
    ),
]
RowsOption = Annotated[
    Path | None,
    typer.Option(
        "--rows", rich_help_panel=DATA, help="For --check: the store or .npy file of the index, if it has been moved."
    ),
]


@options.with_settings
def search(
    *,
    texts: Texts = None,
    index: Index,
    queries: Queries = None,
    text: TextSettings,
    model: Model = None,
    model_options: options.ModelOptions,
    settings: SearchSettings,
    check: Check = None,
    rows: RowsOption = None,
    machine: QueryMachine,
    config: Config = None,  # noqa: ARG001  its callback does the work
    json: options.Json = False,
) -> None:
    """Find the sentences of an index that are nearest to each query."""
    if texts and queries is not None:
        raise UsageError("queries are given as texts and by --queries", hint="leave one of the two out")
    if not texts and queries is None and check is None:
        raise UsageError("there is nothing to search for", hint="type a text in quotes, or name a file: --queries FILE")
    if any(not one.strip() for one in texts or ()):
        raise UsageError("a query is empty", hint="type a text in quotes")
    if rows is not None and check is None:
        raise UsageError("--rows is for --check", hint="leave it out")
    if queries is not None:
        require_file(queries)

    from distilcse_cli.data.every_line import lines, require_lines
    from distilcse_cli.serving import search as serving
    from distilcse_cli.serving.index_folder import open_index

    opened = open_index(index)
    asked: Iterable[str] = texts or ()
    if queries is not None:
        require_lines(queries, text)
        asked = lines(queries, text)
    vectors = None
    if texts or queries is not None:
        encoder, runtime = query_model(opened, model, model_options, settings, machine)
        if check is None:
            _print(serving.search(opened, asked, encoder, settings, runtime), as_json=json)
            return
        vectors = serving.embed_queries(islice(asked, check), encoder, settings.max_length, runtime)
    report = serving.check_index(opened, check or 1, settings, rows=rows, vectors=vectors)
    console.result_json(report.as_dict()) if json else console.result(str(report))


def _print(found: "Iterator[tuple[str, list[Hit]]]", *, as_json: bool) -> None:
    if as_json:
        console.result_json([{"query": query, "results": [hit.as_dict() for hit in hits]} for query, hits in found])
        return
    for query, hits in found:
        rows = [(str(hit.rank), f"{hit.score:.4f}", f"{hit.row:,}", console.printable(hit.sentence)) for hit in hits]
        table = console.table(("", "score", "row", "sentence"), rows, align="rrrl")
        console.result(f"{console.printable(query)}\n{table}")
