"""`distilcse distill`: stage 1, from a teacher and a text file to a student folder."""

# ruff: noqa: ARG001  settings are read from the context, which knows which of them were typed

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from distilcse_cli import console
from distilcse_cli.commands import options
from distilcse_cli.commands.presets import PAPER_DISTILL, check_preset, with_preset
from distilcse_cli.config import CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.training.settings import BANKS, LOSSES, DistillSettings


# the settings are read from the context, where it is known which of them were typed
def distill(
    context: typer.Context,
    teacher: Annotated[str, typer.Option(help="Model to learn from: folder, catalogue name or hub id.")],
    student: Annotated[
        str, typer.Option(help="Model to start from: folder, catalogue name, hub id or file of weights.")
    ],
    corpus: options.Corpus,
    out: Annotated[Path, typer.Option(help="Folder for the student; must not exist or be empty.")],
    keep_layers: Annotated[
        str | None, typer.Option(help="Cut the student: numbers of the layers to keep, such as 0,2,4.")
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help="Folder written by `distilcse extract`. Default: made, and kept in the data home."),
    ] = None,
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
    loss: Annotated[
        str, typer.Option(metavar="|".join(LOSSES), help="What the student is asked to do.")
    ] = DistillSettings.loss,
    epochs: Annotated[int, typer.Option(help="Passes over the corpus.")] = DistillSettings.epochs,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = DistillSettings.max_steps,
    batch_size: Annotated[
        int, typer.Option(help="Sentences in a step, for each process.")
    ] = DistillSettings.batch_size,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Most tokens through the student at once: less memory, the same gradient.")
    ] = DistillSettings.micro_batch_tokens,
    bank_size: Annotated[int, typer.Option(help="Teacher embeddings kept as negatives.")] = DistillSettings.bank_size,
    bank: Annotated[
        str, typer.Option(metavar="|".join(BANKS), help="Whether processes share teacher rows and bank.")
    ] = DistillSettings.bank,
    mask_same_text: Annotated[
        bool, typer.Option(help="Copies of a sentence in the bank are no negatives of it.")
    ] = DistillSettings.mask_same_text,
    false_negative_cosine: Annotated[
        float | None, typer.Option(help="Teacher rows nearer to the positive than this are no negatives.")
    ] = DistillSettings.false_negative_cosine,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = DistillSettings.lr,
    warmup_epochs: Annotated[
        float, typer.Option(help="Length of the warm-up, in epochs.")
    ] = DistillSettings.warmup_epochs,
    logit_scale: Annotated[
        float, typer.Option(help="Cosines are multiplied by it (1 / temperature); where training starts.")
    ] = DistillSettings.logit_scale,
    learn_logit_scale: Annotated[
        bool, typer.Option("--learn-logit-scale/--fix-logit-scale", help="Train the scale along.")
    ] = DistillSettings.learn_logit_scale,
    max_length: Annotated[int, typer.Option(help="Most tokens of a training sentence.")] = DistillSettings.max_length,
    grad_clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = DistillSettings.grad_clip,
    held_out: Annotated[
        int, typer.Option(help="Sentences kept out of training to score agreement with the teacher.")
    ] = DistillSettings.num_held_out,
    dropout: Annotated[
        bool, typer.Option("--dropout/--no-dropout", help="Train with the student's own dropout.")
    ] = DistillSettings.dropout,
    teacher_dropout: Annotated[
        bool, typer.Option("--teacher-dropout", help="Run the teacher in the loop with dropout, as was published.")
    ] = DistillSettings.teacher_dropout,
    keep_projection: Annotated[
        bool, typer.Option("--keep-projection", help="Keep the projection: the student lives in its teacher's space.")
    ] = DistillSettings.keep_projection,
    eval_every: Annotated[
        int, typer.Option(help="Steps between two development scores; 0: at the end only.")
    ] = DistillSettings.eval_every,
    patience: Annotated[
        float | None, typer.Option(help="Stop after so many epochs without a better development score.")
    ] = DistillSettings.patience,
    save_every: Annotated[
        int, typer.Option(help="Steps between two checkpoints; 0: only when interrupted and at the end.")
    ] = DistillSettings.save_every,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard's files too: in OUT.run, at the end in OUT.")
    ] = DistillSettings.tensorboard,
    seed: Annotated[
        int, typer.Option(help="Seed of the order of sentences and of new weights.")
    ] = DistillSettings.seed,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the student in OUT; start an interrupted run anew.")
    ] = False,
    nproc: options.NumProcesses = 1,
    device: options.Device = None,
    compute_dtype: options.ComputeDtype = "auto",
    text_column: options.TextColumn = CorpusSettings.text_column,
    split_sentences: options.SplitSentences = CorpusSettings.split_sentences,
    min_words: options.MinWords = CorpusSettings.min_words,
    max_words: options.MaxWords = CorpusSettings.max_words,
    on_bad_line: options.OnBadLine = CorpusSettings.on_bad_line,
    json: options.Json = False,
) -> None:
    """Stage 1: train a student to pick out its teacher's embeddings (CKD)."""
    settings = _settings(context, preset)
    corpus_settings = CorpusSettings(
        text_column=text_column,
        split_sentences=split_sentences,
        min_words=min_words,
        max_words=max_words,
        on_bad_line=on_bad_line,
    )
    layers = _layer_numbers(keep_layers)
    options.require_utf8(out)
    options.require_outside(out, teacher, student, base, tokenizer, embeddings)

    from distilcse_cli.launcher import launch

    if launch(nproc, sys.argv[1:], device):
        return

    from distilcse_cli.models.reference import ModelRef
    from distilcse_cli.training.distill import DistillSources, run

    sources = DistillSources(
        teacher=ModelRef(ref=teacher, pooler=teacher_pooler, revision=teacher_revision),
        student=ModelRef(
            ref=student,
            pooler=pooler or ("cls" if preset else None),
            revision=revision,
            base=base,
            tokenizer=tokenizer,
            keep_layers=layers,
        ),
        corpus=tuple(corpus),
        embeddings=embeddings,
    )
    report = run(
        sources,
        out,
        settings,
        corpus_settings=corpus_settings,
        device=device,
        compute_dtype=compute_dtype,
        resume=resume,
        overwrite=overwrite,
    )
    if json:
        console.result_json(report.as_dict())
    else:
        console.result(
            f"{out}: {report.num_steps:,} steps over {report.num_sentences:,} sentences"
            f" in {console.duration(report.seconds)}, loss {report.final_loss:.4f}"
        )


def _settings(context: typer.Context, preset: str | None) -> DistillSettings:
    """The settings as typed, the preset's elsewhere, the defaults for the rest."""
    check_preset(preset)
    names = [field.name for field in fields(DistillSettings)]
    given = {name: context.params[name] for name in names if name in context.params}
    given["num_held_out"] = context.params["held_out"]
    return DistillSettings(**(with_preset(context, given, PAPER_DISTILL) if preset else given))


def _layer_numbers(text: str | None) -> tuple[int, ...] | None:
    """`0,2,4` as numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--keep-layers is {text!r}, but must be layer numbers such as 0,2,4") from error
