"""A student's ONNX file gives its vectors in onnxruntime with tokenizers, and in fastembed, by the code in its card."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.serving.onnx_export import export_onnx
from distilcse_cli.serving.settings import OnnxSettings
from tests.contracts.test_snippets import TEXTS, blocks, own_vectors, run, save
from tests.server import ROOT

FASTEMBED = ("fastembed==0.9.1", *"huggingface_hub<2 httpx httpcore h11 loguru mmh3 py-rust-stemmers".split())
"""What fastembed needs beside our packages: it cannot share a folder with today's huggingface_hub."""


@pytest.fixture(scope="session")
def peers() -> Path:
    """A folder of packages for fastembed, made once."""
    folder = Path(os.environ.get("DISTILCSE_PEERS", ROOT / ".venv" / "peers"))
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").is_file():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
            done = subprocess.run([*pip, *FASTEMBED], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"fastembed cannot be installed: {done.stderr.strip().splitlines()[-1]}")
            (folder / "whole").touch()
    return folder


def exported(encoder: SentenceEncoder, folder: Path) -> list[str]:
    """Save a student with its graph; the last blocks of its card are for onnxruntime, fastembed and mteb."""
    export_onnx(ModelRef(ref=str(save(encoder, folder))), TEXTS, OnnxSettings())
    return blocks(folder)


@pytest.mark.parametrize(
    ("architecture", "pooling"), [("bert", "cls"), ("mpnet", "avg_top2"), ("distilbert", "weighted_mean")]
)
def test_onnxruntime_and_tokenizers_give_the_students_vectors(
    tiny: Callable[..., Path], tmp_path: Path, architecture: str, pooling: str
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler=pooling, prompt="the dog: ")
    encoder.normalize = True
    embeddings = run(exported(encoder, tmp_path / "student")[-3])["embeddings"]
    np.testing.assert_allclose(embeddings, own_vectors(encoder), atol=1e-5, rtol=0)


def test_fastembed_gives_the_students_vectors(tiny: Callable[..., Path], tmp_path: Path, peers: Path) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    torch.manual_seed(0)
    encoder.dense = nn.Sequential(Dense(nn.Linear(16, 8), "Identity"))
    code = exported(encoder, tmp_path / "student")[-2]
    file = tmp_path / "rows.npy"
    environment = os.environ | {"PYTHONPATH": str(peers), "HF_HUB_OFFLINE": "1"}
    code += f"\nimport numpy\nnumpy.save({str(file)!r}, numpy.array(embeddings))\n"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(file), own_vectors(encoder), atol=1e-5, rtol=0)
