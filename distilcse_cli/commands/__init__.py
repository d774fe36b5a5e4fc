"""One file a command: parse, call one function, print one result.

Nothing here imports torch or transformers at module level, so that `--help` and every usage
error answer at once; a test looks at `sys.modules`.
"""

from typing import Annotated

import typer

from distilcse_cli import __version__
from distilcse_cli.commands import convert, demo, distill, download, encode, env, eval, extract, finetune, presets

app = typer.Typer(
    name="distilcse",
    help="Make a small, fast student of a large sentence-embedding model, and prove on SentEval what it kept.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _offline(value: bool) -> None:
    if value:
        from distilcse_cli.catalogue.offline import go_offline

        go_offline()  # now: the hub client, transformers and datasets look at the variables when they are imported


def _version(value: bool) -> None:
    if value:
        typer.echo(f"distilcse {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    _go_offline: Annotated[
        bool,
        typer.Option("--offline", callback=_offline, help="Before any command: never ask any network; fail instead."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(download.download)
app.command()(demo.demo)
app.command(cls=presets.AuthorsNamesCommand)(distill.distill)
app.command(cls=finetune.AuthorsFinetuneCommand)(finetune.finetune)
app.command()(convert.convert)
app.command()(env.env)
app.command()(extract.extract)
app.command()(encode.encode)
app.command("eval", context_settings=eval.CONTEXT)(eval.evaluate)
