"""What the tests run in processes of its own, to be killed there."""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Event
from pathlib import Path

from distilcse_cli.config import EncodeSettings
from distilcse_cli.data.corpus import open_corpus
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.runtime import Runtime
from distilcse_cli.teacher import extract as module
from distilcse_cli.teacher.store import locked


def fork_server() -> ForkServerContext:
    """New processes that need not load torch anew, and have none of this one's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preload"])
    return context


def extract(
    model: str, corpus: Path, out: Path, home: str, settings: EncodeSettings, runtime: Runtime, window_rows: int
) -> None:
    os.environ["DISTILCSE_HOME"] = home
    encoder = load_encoder(model, pooler="avg")
    module.extract(encoder, open_corpus(corpus), out, settings, runtime, window_rows=window_rows)


def hold_folder(out: Path, is_held: Event, let_go: Event) -> None:
    with locked(out):
        is_held.set()
        let_go.wait()
