"""`distilcse download`: fetch models and data sets of the catalogue, or list what there is."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.errors import UsageError

if TYPE_CHECKING:
    from distilcse_cli.data.catalogue import Entry


def _complete(incomplete: str) -> list[str]:
    from distilcse_cli.data import catalogue

    return [name for name in catalogue.names() if name.startswith(incomplete)]


def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of the catalogue.", autocompletion=_complete, show_default=False)
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the catalogue, and what of it is here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download models and data sets by name into the data home.

    Prints where each one is. What is there already is left alone, without asking the network.
    """
    from distilcse_cli.data import catalogue

    if not names and not show_list:
        raise UsageError(
            "nothing to download was named", hint=f"one or more of {', '.join(catalogue.names())}; or --list"
        )
    # a misspelt last name is found before the first one is fetched
    chosen = [catalogue.entry(name) for name in dict.fromkeys(names or catalogue.names())]
    if not show_list:
        for entry in chosen:
            if entry.record() is not None:
                console.log(f"{entry.name}: already there")
            entry.fetch()
    if as_json:
        console.result_json([_describe(entry) for entry in chosen])
    elif show_list:
        console.result(_table(chosen))
    else:
        console.result("\n".join(str(entry.path) for entry in chosen))


def _describe(entry: "Entry") -> dict[str, Any]:
    record = entry.record()
    return {
        "name": entry.name,
        "kind": entry.kind,
        "about": entry.about,
        "license": entry.license,
        "source": entry.source.label,
        "download_bytes": entry.source.num_download_bytes,
        "unpacked_bytes": entry.source.num_unpacked_bytes,
        "path": str(entry.path) if record else None,
        "record": record,
    }


def _table(entries: "list[Entry]") -> str:
    header = ("name", "kind", "size", "license", "source", "here")
    rows = [
        (
            entry.name,
            entry.kind,
            f"{entry.source.num_unpacked_bytes / 1e6:.0f} MB",
            entry.license,
            entry.source.label,
            str(entry.path) if entry.record() else "no",
        )
        for entry in entries
    ]
    return console.table(header, rows, align="llrlll")
