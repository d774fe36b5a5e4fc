"""A static page that embeds and searches sentences in the browser. It asks no other server for anything.

index.html                                the page
model.onnx tokenizer.json …               the student, as a graph
student.json                              length limit, prompt, sentences, and Python's embeddings of them
vendor/                                   onnxruntime-web and a tokenizer in JavaScript, fetched by npm
"""

import html
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.catalogue.refusals import public_text
from distilcse_cli.errors import NetworkError, UsageError
from distilcse_cli.files import atomic_folder, write_json
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.serving.onnx_export import embed_by_torch, graphs_of
from distilcse_cli.serving.settings import OnnxSettings
from distilcse_cli.serving.web_page import PAGE

VENDORED = {
    "onnxruntime-web@1.30.0": (
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
    "@huggingface/tokenizers@0.2.0": ("dist/tokenizers.min.mjs",),
}
"""Packages of npm, and the files of each that a page needs."""
MOST_SENTENCES = 256
_SECONDS = 900


def require_npm() -> str:
    """Find npm, before a model is loaded.

    Raises:
        UsageError: it is not installed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError("--web fetches onnxruntime-web by npm, which is not installed", hint="install Node.js")
    return npm


def export_web(student: ModelRef, out: Path, texts: list[str], settings: OnnxSettings) -> dict[str, Any]:
    """Write the page of a student.

    Args:
        student: any model.
        out: must not exist, or be empty.
        texts: what the page searches; the graph is checked on them.
        settings: `int8` takes the graph of integers, for a quarter of the download.

    Returns:
        Sizes and measured differences, for `--json`.

    Raises:
        NetworkError: npm cannot fetch a package.
        DistilCSEError: as from `onnx_export.graphs_of`; or `out` cannot be written.
    """
    npm, encoder = require_npm(), student.load()
    checked = embed_by_torch(encoder, texts)
    graphs, report = graphs_of(encoder, checked, settings)
    with atomic_folder(out) as target:
        (target / "model.onnx").write_bytes(list(graphs.values())[-1].SerializeToString())
        encoder.tokenizer.backend_tokenizer.no_truncation()
        encoder.tokenizer.backend_tokenizer.no_padding()
        encoder.tokenizer.save_pretrained(target)
        vendor = target / "vendor"
        vendor.mkdir()
        for package, members in VENDORED.items():
            _fetch(npm, package, members, vendor)
        page = PAGE.replace("{{student}}", html.escape(Path(student.ref).name))
        (target / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")
        about = {
            "max_length": encoder.max_length,
            "prompt": encoder.prompts.used,
            "sentences": texts,
            "embeddings": [[round(number, 6) for number in row] for row in checked.unit.tolist()],
        }
        write_json(target / "student.json", about)
        num_bytes = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    return report | {"out": str(out), "num_bytes": num_bytes, "vendored": list(VENDORED)}


def _fetch(npm: str, package: str, members: tuple[str, ...], vendor: Path) -> None:
    """Put some files of a package into a folder. npm checks what it downloads; no script of a package runs."""
    offline = "--offline" if is_offline() else "--prefer-offline"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package, "--ignore-scripts", "--silent", offline, "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=folder)
        except subprocess.TimeoutExpired as error:
            raise NetworkError(f"npm has not fetched {package} in 15 minutes", hint="check the connection") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = public_text(done.stderr or done.stdout)[:200] or f"exit code {done.returncode}"
            raise NetworkError(f"npm cannot fetch {package}: {said}", hint="check the connection and npm's registry")
        with tarfile.open(archives[0]) as archive:
            for member in members:
                try:
                    content = archive.extractfile(f"package/{member}")
                except KeyError:
                    content = None
                if content is None:
                    raise NetworkError(f"npm's {package} has no {member}", hint="check npm's registry")
                (vendor / PurePosixPath(member).name).write_bytes(content.read())
