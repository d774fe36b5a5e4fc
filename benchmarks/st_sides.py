"""What a user would pick instead: sentence-transformers, encoding. Needs no package of this project."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch

BATCHES = (32, 128)
"""Batch sizes tried on a backend before the first round: the library's default and a large one."""


class STEncode:
    """`SentenceTransformer.encode`.

    Args:
        model: folder.
        sentences: JSON file of a list of sentences.
        rows: folder that the embeddings are written to, for their cosines.
        backend: `torch`, `onnx` or `openvino`.
        dtype: `float32`, `bfloat16` (weights), or `int8` (of `onnx` and `openvino`, exported before).
        batch_size: None takes the faster one of `BATCHES` on a few of the sentences.
    """

    def __init__(
        self, *, model: str, sentences: str, rows: str, backend: str, dtype: str, batch_size: int | None
    ) -> None:
        from time import perf_counter

        self.sentences = json.loads(Path(sentences).read_text(encoding="utf-8"))
        self.model = _open(model, backend, dtype)
        sample = self.sentences[:: max(1, len(self.sentences) // 512)]
        self._encode(sample, BATCHES[0])  # warm-up, without which the first batch size would look slow
        rates = {}
        for size in BATCHES if batch_size is None else ():
            started = perf_counter()
            self._encode(sample, size)
            rates[size] = len(sample) / (perf_counter() - started)
        self.batch_size = batch_size or max(rates, key=rates.__getitem__)
        self.rows = Path(rows) / f"{hashlib.sha256(f'{backend} {dtype} {batch_size}'.encode()).hexdigest()[:16]}.npy"
        packages = ["sentence-transformers", "transformers", "torch"]
        packages += {"onnx": ["optimum-onnx", "onnxruntime"], "openvino": ["optimum-intel", "openvino"]}.get(
            backend, []
        )
        self.facts: dict[str, Any] = {
            "batch_size": self.batch_size,
            "rows": str(self.rows),
            "versions": {name: version(name) for name in packages},
            "threads": torch.get_num_threads(),
        }

    def run(self) -> dict[str, Any]:
        """Embed all sentences."""
        np.save(self.rows, self._encode(self.sentences, self.batch_size))
        return {"num": len(self.sentences)}

    def _encode(self, sentences: list[str], batch_size: int) -> np.ndarray:
        rows = self.model.encode(sentences, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
        return rows.float().numpy()


def _open(model: str, backend: str, dtype: str) -> Any:
    if backend == "torch":
        how = {"model_kwargs": {"dtype": getattr(torch, dtype)}}
        return sentence_transformers.SentenceTransformer(model, device="cpu", **how)
    if dtype == "float32":
        return sentence_transformers.SentenceTransformer(
            model, device="cpu", backend=backend, model_kwargs={"export": True}
        )
    return sentence_transformers.SentenceTransformer(
        _int8(model, backend), device="cpu", backend=backend, model_kwargs={"file_name": INT8_FILES[backend]}
    )


INT8_FILES = {"onnx": "model_qint8_avx512_vnni.onnx", "openvino": "openvino_model_qint8_quantized.xml"}


def _int8(model: str, backend: str) -> str:
    """Folder of the model quantized to int8 by the library's own helper, made once beside the temporary files."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix=f"int8-{backend}-"))
    exported = sentence_transformers.SentenceTransformer(
        model, device="cpu", backend=backend, model_kwargs={"export": True}
    )
    exported.save_pretrained(str(folder))
    if backend == "onnx":
        sentence_transformers.export_dynamic_quantized_onnx_model(exported, "avx512_vnni", str(folder))
    else:
        sentence_transformers.export_static_quantized_openvino_model(exported, None, str(folder))
    return str(folder)
