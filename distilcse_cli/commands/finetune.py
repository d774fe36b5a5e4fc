"""`distilcse finetune`: stage 2, from a student and a table of triples to a better student."""

# ruff: noqa: ARG001  settings are read from the context, which knows which of them were typed

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.presets import AUTHORS_NAMES, PAPER_FINETUNE, AuthorsNamesCommand, check_preset, with_preset
from distilcse_cli.config import TripletSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.training.settings import FinetuneSettings


class AuthorsFinetuneCommand(AuthorsNamesCommand):
    """The authors' names as stage 2 means them; its scale is no exponent, and it has no queue."""

    renamed = {  # noqa: RUF012  a class attribute that is read, as in the base class
        **{name: today for name, today in AUTHORS_NAMES.items() if name != "--queue_len"},
        "--data_path": ("--triplets", None),
        "--temp": ("--logit-scale", None),
    }


def finetune(
    context: typer.Context,
    student: Annotated[
        str, typer.Option(help="Model to fine-tune: folder, catalogue name, hub id or file of weights.")
    ],
    triplets: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="Anchor, positive and, if there is one, hard negative in each row: .csv, .tsv, .jsonl (each also .gz),"
            " .parquet. May be repeated.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the student; must not exist or be empty.")],
    columns: Annotated[
        str | None, typer.Option(metavar="A,B[,C]", help="Names of the columns. Default: known names, else the places.")
    ] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Whether the first row names the columns.")
    ] = TripletSettings.header,
    on_bad_line: options.OnBadLine = TripletSettings.on_bad_line,
    keep_teacher: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Keep the student near --teacher: weight of 1 - cos to it.")
    ] = FinetuneSettings.keep_teacher,
    teacher: Annotated[str | None, typer.Option(help="Model that --keep-teacher keeps the student near.")] = None,
    base: options.Base = None,
    tokenizer: options.Tokenizer = None,
    pooler: options.Pooler = None,
    teacher_pooler: Annotated[
        str | None, typer.Option(help="The teacher's pooling. Default: its folder's own.")
    ] = None,
    revision: options.Revision = None,
    teacher_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub teacher.")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="paper", help="Start from the published settings; options typed still count.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the triples.")] = FinetuneSettings.epochs,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = FinetuneSettings.max_steps,
    batch_size: Annotated[int, typer.Option(help="Triples in a step, for each process.")] = FinetuneSettings.batch_size,
    micro_batch_tokens: Annotated[
        int | None,
        typer.Option(
            help="Most tokens through the student at once: a larger batch goes through twice, in less memory."
        ),
    ] = FinetuneSettings.micro_batch_tokens,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = FinetuneSettings.lr,
    warmup_epochs: Annotated[
        float, typer.Option(help="Length of the warm-up, in epochs.")
    ] = FinetuneSettings.warmup_epochs,
    logit_scale: Annotated[
        float, typer.Option(help="Cosines are multiplied by it (1 / temperature); where training starts.")
    ] = FinetuneSettings.logit_scale,
    learn_logit_scale: Annotated[
        bool, typer.Option("--learn-logit-scale/--fix-logit-scale", help="Train the scale along.")
    ] = FinetuneSettings.learn_logit_scale,
    exponential_scale: Annotated[
        bool, typer.Option("--exponential-scale", help="Train the scale's logarithm, as stage 1 does.")
    ] = FinetuneSettings.exponential_scale,
    mask_same_text: Annotated[
        bool, typer.Option(help="Copies of a triple's own anchor or positive are no negatives to it.")
    ] = FinetuneSettings.mask_same_text,
    max_length: Annotated[int, typer.Option(help="Most tokens of a sentence.")] = FinetuneSettings.max_length,
    grad_clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = FinetuneSettings.grad_clip,
    num_held_out: Annotated[
        int, typer.Option("--held-out", help="Triples kept out of training to score the student on.")
    ] = FinetuneSettings.num_held_out,
    dropout: Annotated[
        bool, typer.Option("--dropout/--no-dropout", help="Train with the student's own dropout.")
    ] = FinetuneSettings.dropout,
    eval_every: Annotated[
        int, typer.Option(help="Steps between two development scores; 0: at the end only.")
    ] = FinetuneSettings.eval_every,
    patience: Annotated[
        float | None, typer.Option(help="Stop after so many epochs without a better development score.")
    ] = FinetuneSettings.patience,
    save_every: Annotated[
        int, typer.Option(help="Steps between two checkpoints; 0: only when interrupted and at the end.")
    ] = FinetuneSettings.save_every,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's files too: in OUT.run, at the end in OUT.")
    ] = FinetuneSettings.tensorboard,
    seed: Annotated[int, typer.Option(help="Seed of the order of triples and of dropout.")] = FinetuneSettings.seed,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the student in OUT; start an interrupted run anew.")
    ] = False,
    nproc: options.NumProcesses = 1,
    device: options.Device = None,
    compute_dtype: options.ComputeDtype = "auto",
    json: options.Json = False,
) -> None:
    """Stage 2: teach a student which sentences mean the same, from triples (supervised contrastive learning)."""
    settings = _settings(context, preset)
    options.require_utf8(out)
    options.require_outside(out, student, teacher, base, tokenizer)
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    triplet_settings = TripletSettings(columns=names, header=header, on_bad_line=on_bad_line)
    if (teacher is None) != (settings.keep_teacher == 0):
        raise UsageError("--teacher and --keep-teacher go together", hint="such as --teacher REF --keep-teacher 0.5")

    from distilcse_cli.launcher import launch

    if launch(nproc, sys.argv[1:], device):
        return

    from distilcse_cli.models.reference import ModelRef
    from distilcse_cli.training.triples import FinetuneSources, run

    sources = FinetuneSources(
        student=ModelRef(
            ref=student,
            pooler=pooler or ("cls" if preset else None),
            revision=revision,
            base=base,
            tokenizer=tokenizer,
        ),
        triplets=tuple(triplets),
        teacher=None if teacher is None else ModelRef(ref=teacher, pooler=teacher_pooler, revision=teacher_revision),
    )
    report = run(
        sources,
        out,
        settings,
        triplet_settings=triplet_settings,
        device=device,
        compute_dtype=compute_dtype,
        resume=resume,
        overwrite=overwrite,
    )
    if json:
        console.result_json(report.as_dict())
        return
    score = (
        ""
        if report.dev_score is None
        else f", {report.dev_set} {report.dev_score:.2f} (before: {report.start_score:.2f})"
    )
    console.result(
        f"{out}: {report.num_steps:,} steps over {report.num_triples:,} triples"
        f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}{score}"
    )


def _settings(context: typer.Context, preset: str | None) -> FinetuneSettings:
    """The settings as typed, the preset's elsewhere, the defaults for the rest."""
    check_preset(preset)
    names = [field.name for field in fields(FinetuneSettings)]
    given = {name: context.params[name] for name in names if name in context.params}
    return FinetuneSettings(**(with_preset(context, given, PAPER_FINETUNE) if preset else given))
