"""`distilcse download`: fetch models and data sets, list, verify or remove what there is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distilcse_cli import console
from distilcse_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from distilcse_cli.catalogue import Entry


def _complete(incomplete: str) -> list[str]:
    from distilcse_cli import catalogue

    return [name for name in (*catalogue.names(), *catalogue.GROUPS) if name.startswith(incomplete)]


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or groups of the catalogue, or hub ids: owner/name, datasets/owner/name.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the catalogue, and what of it is here.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash what is here again. Without names: all of it.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove what is here of these.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Work on DIR/NAME instead of the data home.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit, for hub sources.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask any network; fail instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download models and data sets by name into the data home.

    Prints where each one is. What is there already is left alone, without asking the network.
    """
    from distilcse_cli import catalogue
    from distilcse_cli.catalogue.offline import go_offline

    if show_list + verify + remove > 1:
        raise UsageError("--list, --verify and --remove exclude each other", hint="one at a time")
    if not names and not show_list and not verify:
        known = ", ".join((*catalogue.names(), *catalogue.GROUPS))
        raise UsageError("nothing was named", hint=f"one or more of {known}; a hub id; or --list")
    if offline:
        go_offline()
    # a misspelt last name is found before the first one is fetched
    chosen = catalogue.select(names or catalogue.names(), revision=revision if names else None, home=folder)
    if not names and folder is None:
        chosen += catalogue.downloaded_ids()
    if verify:
        _verify(chosen, as_json=as_json, named=bool(names))
    elif remove:
        _remove(chosen, as_json=as_json)
    elif show_list:
        described = [_describe(entry) for entry in chosen]
        console.result_json(described) if as_json else console.result(_table(described))
    else:
        _fetch(chosen, as_json=as_json)


def _fetch(entries: "list[Entry]", *, as_json: bool) -> None:
    for entry in entries:
        if entry.record() is not None:
            console.log(f"{entry.name}: already there")
        entry.fetch()
    if as_json:
        console.result_json([_describe(entry) for entry in entries])
    else:
        console.result("\n".join(str(entry.path) for entry in entries))


def _verify(entries: "list[Entry]", *, as_json: bool, named: bool) -> None:
    """Hash again, and fail at the end if anything is wrong; what was never downloaded is wrong if named."""
    from distilcse_cli.catalogue import install

    results = []
    for entry in entries:
        here = (entry.folder / install.RECORD).is_file()
        if here or named:
            damages = install.damages(entry.folder) if here else [f"{entry.folder} is not here"]
            results.append({"name": entry.name, "folder": str(entry.folder), "damages": damages})
    if as_json:
        console.result_json(results)
    elif results:
        lines = [[f"{one['name']}: whole"] if not one["damages"] else _damage_lines(one) for one in results]
        console.result("\n".join(line for group in lines for line in group))
    bad = [str(one["name"]) for one in results if one["damages"]]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(results)} downloads are not what they were: {', '.join(bad)}",
            hint=f"distilcse download --remove {' '.join(bad)}; then download again",
        )


def _damage_lines(result: dict[str, Any]) -> list[str]:
    return [f"{result['name']}: {damage}" for damage in result["damages"]]


def _remove(entries: "list[Entry]", *, as_json: bool) -> None:
    from distilcse_cli.catalogue import install

    removed = []
    for entry in entries:
        if install.remove(entry.folder):
            removed.append(str(entry.folder))
        else:
            console.log(f"{entry.name}: not here")
    if as_json:
        console.result_json(removed)
    elif removed:
        console.result("\n".join(removed))


def _describe(entry: "Entry") -> dict[str, Any]:
    record = entry.record()
    num_bytes = sum(file["bytes"] for file in record["files"]) if record else entry.source.num_unpacked_bytes
    return {
        "name": entry.name,
        "kind": entry.kind,
        "about": entry.about,
        "license": entry.license,
        "source": entry.source.label,
        "download_bytes": entry.source.num_download_bytes,
        "unpacked_bytes": num_bytes,
        "sha256": (record or {}).get("sha256") or entry.source.sha256,
        "path": str(entry.path) if record else None,
        "record": record,
    }


def _table(described: list[dict[str, Any]]) -> str:
    header = ("name", "kind", "size", "license", "source", "sha256", "here")
    rows = [
        (
            one["name"],
            one["kind"],
            "?" if one["unpacked_bytes"] is None else f"{one['unpacked_bytes'] / 1e6:.0f} MB",
            one["license"],
            one["source"],
            f"{one['sha256'][:12]}…" if one["sha256"] else "?",
            one["path"] or "no",
        )
        for one in described
    ]
    return console.table(header, rows, align="llrllll")
