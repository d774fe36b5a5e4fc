"""`distilcse download`: fetch models and data sets; list, verify or remove them."""

import shlex
import textwrap
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
            metavar="NAME",
            help="Names or groups of the catalogue, or hub ids: owner/name, datasets/owner/name. "
            "Without any, the catalogue is shown.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show these, or the whole catalogue, instead of downloading.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check these, or all that is here, against the recorded hashes.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete these.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Use DIR/NAME instead of the data home.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit, for hub sources.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network; fail if something is not here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Download models and data sets by name into the data home.

    Prints the path of each. What is here already stays as it is, and the network is not asked.

    Without names, shows what there is to download.
    """
    from distilcse_cli import catalogue
    from distilcse_cli.catalogue.offline import go_offline

    if show_list + verify + remove > 1:
        raise UsageError("--list, --verify and --remove exclude each other", hint="one at a time")
    if not names and (remove or (revision and not show_list and not verify)):
        option = "--remove" if remove else "--revision"
        raise UsageError(f"{option} needs a name, but nothing was named", hint="distilcse download lists the names")
    if offline:
        go_offline()
    # all names are checked before the first download
    chosen = catalogue.select(names or catalogue.names(), revision=revision if names else None, home=folder)
    if not names and folder is None:
        chosen += catalogue.downloaded_ids()
    if verify:
        _verify(chosen, as_json=as_json, named=bool(names))
    elif remove:
        _remove(chosen, as_json=as_json)
    elif show_list or not names:
        described = [_describe(entry) for entry in chosen]
        console.result_json(described) if as_json else console.result(_overview(described))
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
    """Compare files with their records, and fail at the end if any differs, or if what was named is not here."""
    from distilcse_cli.catalogue import install

    results, bad, repairs = [], [], []
    for entry in entries:
        is_here = (entry.folder / install.RECORD).is_file()
        if not is_here and not named:
            continue
        damages = install.damages(entry.folder) if is_here else [f"{entry.folder} is not here"]
        results.append({"name": entry.name, "folder": str(entry.folder), "damages": damages})
        if damages:
            bad.append(entry.name)
            repairs += [f"{entry.command} --remove"] * is_here + [entry.command]
    if as_json:
        console.result_json(results)
    elif results:
        lines = [f"{one['name']}: {line}" for one in results for line in one["damages"] or ["whole"]]
        console.result("\n".join(lines))
    if bad:
        message = f"{len(bad)} of {len(results)} downloads are not what they were: {', '.join(bad)}"
        raise DataError(message, hint=" && ".join(repairs))


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


def _overview(described: list[dict[str, Any]]) -> str:
    """Draw the table of entries, then the groups, the paths of what is here, and the next command."""
    from distilcse_cli import catalogue

    rows = [
        (
            one["name"],
            textwrap.fill(one["about"], 48),
            "?" if one["unpacked_bytes"] is None else f"{one['unpacked_bytes'] / 1e6:,.0f} MB",
            textwrap.fill(one["license"], 22),
            "yes" if one["path"] else "no",
        )
        for one in described
    ]
    lines = [console.table(("name", "what it is", "size", "license", "here"), rows, align="llrll")]
    lines += [f"group {group}: {', '.join(names)}" for group, names in catalogue.GROUPS.items()]
    lines += [f"{one['name']} is in {one['path']}" for one in described if one["path"]]
    absent = next((one["name"] for one in described if not one["path"]), catalogue.DEFAULT_MODEL)
    if any(one["unpacked_bytes"] is None for one in described):
        lines += ["?: the size is known, and the license shown, when it is downloaded"]
    lines += [f"next: distilcse download NAME, such as: distilcse download {shlex.quote(absent)}"]
    return "\n".join(lines)
