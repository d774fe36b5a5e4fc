"""The code of a model card: how to use this student in each program. A test runs every block.

`path/to/this/folder` stands for the folder, or for its id once it is on the hub.
"""

import json
import shlex

from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.pooling import FIRST_TOKEN, LAST_TOKEN, MEAN, POOLINGS, WEIGHTED_MEAN, Reading

FOLDER = "path/to/this/folder"
_ACTIVATIONS = {
    "Tanh": "torch.tanh({})",
    "ReLU": "functional.relu({})",
    "GELU": "functional.gelu({})",
    "Identity": "{}",
}
_MEAN = "(tokens * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)"
_POOLED: dict[Reading, list[str]] = {
    FIRST_TOKEN: ["vectors = tokens[:, 0]"],
    LAST_TOKEN: ["vectors = tokens[torch.arange(len(tokens)), mask.sum(dim=1) - 1]"],
    MEAN: [f"vectors = {_MEAN}"],
    WEIGHTED_MEAN: ["mask = mask * mask.cumsum(dim=1)  # later tokens count more", f"vectors = {_MEAN}"],
}


def _texts(encoder: SentenceEncoder) -> str:
    texts = '["A sentence.", "Another one."]'
    return f"[{encoder.prompts.used!r} + text for text in {texts}]" if encoder.prompts.used else texts


def sentence_transformers(encoder: SentenceEncoder) -> str:
    """Python for sentence-transformers, which puts the prompt before a text itself."""
    prompt = f"  # puts {encoder.prompts.used!r} before each" if encoder.prompts.used else ""
    return f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{FOLDER}")
embeddings = model.encode(["A sentence.", "Another one."]){prompt}
"""


def plain_transformers(encoder: SentenceEncoder) -> str:
    """Python for transformers alone, pooling, dense layers and scaling written out."""
    pooling = POOLINGS[encoder.pooling]
    no_pooler = ", add_pooling_layer=False" if encoder.lacks_pooler else ""
    all_layers = "" if pooling.mixes is None else ", output_hidden_states=True"
    dense = list(encoder.dense or ())
    lines = [
        "import torch",
        *(["from safetensors.torch import load_file"] if dense else []),
        *(["from torch.nn import functional"] if dense or encoder.normalize else []),
        "from transformers import AutoModel, AutoTokenizer",
        "",
        f'folder = "{FOLDER}"',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = AutoModel.from_pretrained(folder{no_pooler})",
        f'batch = tokenizer({_texts(encoder)}, padding=True, truncation=True, return_tensors="pt")',
        "with torch.no_grad():",
        f"    output = model(**batch{all_layers})",
        'tokens, mask = output.last_hidden_state, batch["attention_mask"]',
        *([] if pooling.mixes is None else [f"tokens = (tokens + output.hidden_states[{pooling.mixes}]) / 2"]),
        *_POOLED[pooling.reads],
    ]
    for number, layer in enumerate(dense, start=2 if pooling.mixes is None else 3):
        bias = "" if layer.linear.bias is None else ', dense["linear.bias"].float()'
        product = f'functional.linear(vectors, dense["linear.weight"].float(){bias})'
        lines.append(f'dense = load_file(f"{{folder}}/{number}_Dense/model.safetensors")')
        lines.append(f"vectors = {_ACTIVATIONS[layer.activation_name].format(product)}")
    if encoder.normalize:
        lines.append("vectors = functional.normalize(vectors)")
    return "\n".join(lines) + "\n"


def text_embeddings_inference(encoder: SentenceEncoder) -> str:
    """Shell for the server, and a request to it."""
    named = encoder.prompts.as_dict()["default_prompt_name"] if encoder.prompts.used else None
    prompt = f" --default-prompt-name {shlex.quote(named)}" if named else ""
    request = json.dumps({"inputs": ["A sentence."], "normalize": encoder.normalize})
    return f"""docker run -p 8080:80 -v "$(realpath "{FOLDER}")":/model \\
    ghcr.io/huggingface/text-embeddings-inference:cpu-1.9 --model-id /model{prompt}
curl 127.0.0.1:8080/embed -H "Content-Type: application/json" -d '{request}'
"""


def onnx_runtime(encoder: SentenceEncoder) -> str:
    """Python for onnxruntime and tokenizers, without torch; the graph pools and scales."""
    tokenizer = encoder.tokenizer
    return f"""import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = "{FOLDER}"
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
tokenizer.enable_truncation({encoder.max_length})
tokenizer.enable_padding(pad_id={tokenizer.pad_token_id}, pad_token={tokenizer.pad_token!r})
batch = tokenizer.encode_batch({_texts(encoder)})
inputs = {{"input_ids": [one.ids for one in batch], "attention_mask": [one.attention_mask for one in batch]}}
inputs["token_type_ids"] = [one.type_ids for one in batch]
session = onnxruntime.InferenceSession(f"{{folder}}/onnx/model.onnx")
wanted = {{one.name: np.array(inputs[one.name]) for one in session.get_inputs()}}
[embeddings] = session.run(["sentence_embedding"], wanted)
"""


def fastembed(encoder: SentenceEncoder, name: str) -> str:
    """Python for fastembed, which takes the graph's own pooling and scaling."""
    return f"""from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

TextEmbedding.add_custom_model(
    model="{name}",
    pooling=PoolingType.DISABLED,
    normalization=False,
    sources=ModelSource(hf="{name}"),
    dim={encoder.embedding_dim},
    output_name="sentence_embedding",
)
model = TextEmbedding("{name}", specific_model_path="{FOLDER}")
embeddings = list(model.embed({_texts(encoder)}))
"""


def mteb(name: str) -> str:
    """Python for a benchmark of mteb. Without a name, mteb takes all local folders for one model."""
    return f"""import mteb
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{FOLDER}")
model.model_card_data.model_name = "{name}"  # else mteb mixes up its results with other folders'
mteb.evaluate(model, mteb.get_tasks(tasks=["STSBenchmark"], languages=["eng"]))
"""


def asymmetric() -> str:
    """Python for a folder of two models: one for queries, one for documents."""
    return f"""from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{FOLDER}")
documents = model.encode_document(["A sentence.", "Another one."])
scores = model.similarity(model.encode_query(["a question"]), documents)
"""
