"""How many of our functions a sentence passes between a command and the pooling, in one process."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from distilcse_cli.commands import app
from distilcse_cli.models import encoder, pooling
from tests.conftest import ROOT
from tests.evaluation.small import write_sts16

MOST = 10
COMMANDS = {"encode": "encode", "extract": "extract", "eval": "evaluate"}
"""The function of each command."""


def own_frames(frame: FrameType | None) -> list[tuple[str, str]]:
    """File and function of our own frames, the innermost first."""
    found = []
    while frame is not None:
        file = os.path.relpath(frame.f_code.co_filename, ROOT)
        if file.startswith(("distilcse_cli/", "senteval/")):
            found.append((file, frame.f_code.co_name))
        frame = frame.f_back
    return found


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_sentence_passes_few_functions_on_its_way_to_the_pooling(
    command: str, tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = []

    def pool(*arguments: Any) -> torch.Tensor:
        frames = own_frames(sys._getframe(1))
        if threading.current_thread() is not threading.main_thread():
            frames += own_frames(sys._current_frames()[threading.main_thread().ident or 0])
        stacks.append(frames)
        return pooling.pool(*arguments)

    monkeypatch.setattr(encoder, "pool", pool)
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the cat number {row} sleeps\n" for row in range(200)), encoding="utf-8")
    write_sts16(tmp_path / "data")
    arguments = {
        "encode": [text, "--model", tiny(), "--out", tmp_path / "rows.npy"],
        "extract": ["--teacher", tiny(), "--corpus", text, "--out", tmp_path / "store"],
        "eval": ["--model", tiny(), "--tasks", "STS16", "--data", tmp_path / "data"],
    }[command]
    common = ["--pooler", "avg", "--compute-dtype", "float32", "--device", "cpu", "--batch-tokens", "100"]
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        app([command, *map(str, arguments), *common], standalone_mode=False)
    finally:
        torch.set_num_threads(num_threads)
    start = (f"distilcse_cli/commands/{command}.py", COMMANDS[command])
    between = [frames[: frames.index(start)] for frames in stacks]
    assert len(between) > 10, "several batches"
    longest = max(between, key=len)
    assert len(longest) <= MOST, longest
