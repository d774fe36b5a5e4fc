"""One file for each command: parse the options, call one function, print one result.

Nothing here imports torch or transformers at module level, so `--help` and usage errors answer
at once; a test checks `sys.modules`.
"""

from typing import Annotated

import typer

from distilcse_cli import __version__
from distilcse_cli.commands import (
    align,
    compare,
    convert,
    demo,
    distill,
    download,
    encode,
    env,
    eval,
    export,
    extract,
    finetune,
    import_vectors,
    index,
    presets,
    push,
    search,
)
from distilcse_cli.commands.options import Grouped

app = typer.Typer(
    name="distilcse",
    help="Make a small, fast student of a large sentence-embedding model, and measure on SentEval what it kept.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _offline(value: bool) -> None:
    if value:
        from distilcse_cli.catalogue.offline import go_offline

        go_offline()  # now: the hub client, transformers and datasets read the variables when they are imported


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
        typer.Option("--offline", callback=_offline, help="Never use the network. Put it before the command."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# in the order of the path from text to a student and its use
app.command(cls=Grouped)(download.download)
app.command(cls=Grouped, epilog=extract.EXAMPLES)(extract.extract)
app.command("import", cls=Grouped, epilog=import_vectors.EXAMPLES)(import_vectors.import_vectors)
app.command(cls=presets.TrainingCommand, epilog=distill.EXAMPLES)(distill.distill)
app.command(cls=presets.FinetuneCommand, epilog=finetune.EXAMPLES)(finetune.finetune)
app.command(cls=Grouped, epilog=compare.EXAMPLES)(compare.compare)
app.command("eval", cls=Grouped, epilog=eval.EXAMPLES, context_settings=eval.CONTEXT)(eval.evaluate)
app.command(cls=Grouped, epilog=encode.EXAMPLES)(encode.encode)
app.command(cls=Grouped, epilog=index.EXAMPLES)(index.index)
app.command(cls=Grouped, epilog=search.EXAMPLES)(search.search)
app.command(cls=Grouped, epilog=align.EXAMPLES)(align.align)
app.command(cls=Grouped, epilog=export.EXAMPLES)(export.export)
app.command(cls=Grouped, epilog=push.EXAMPLES)(push.push)
app.command(cls=Grouped, epilog=convert.EXAMPLES)(convert.convert)
app.command(cls=Grouped, epilog=demo.EXAMPLES)(demo.demo)
app.command(cls=Grouped)(env.env)
